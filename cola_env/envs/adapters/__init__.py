"""Dreams in other libraries. Import the module of the library you have:

| module | offers |
|---|---|
| `cola_env.envs.adapters.stable_baselines3` | `DreamVecEnv`, a `VecEnv` of many dreams |

TorchRL takes a dream as it is, by its `GymWrapper`.
"""
