"""Dreams in other libraries. Import the module of the library you have:

- `cola_env.envs.adapters.stable_baselines3`: `DreamVecEnv`, a `VecEnv` of many dreams, and
  `load_agent`, a saved PPO as a function of frames.

TorchRL takes a dream as it is, by its `GymWrapper`.
"""
