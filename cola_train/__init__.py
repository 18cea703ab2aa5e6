"""Data, training and evaluation of the models that `cola_env` runs.

By floors, each of which may import those below it and `cola_env`:

- commands: `__main__` (train), `collect`, `classifier`, `clone`, `codebook`, `show`, `describe`,
  `publish`, with their settings in `conf/`, `trained_models`, what they ask of a finished
  training, and `training_costs`, of one that has not begun;
- `trainer`, `learner`, `distributed`, `run_folder`, `preconditions`, `collapse`: a training;
- `meter`: what a computation would cost;
- `phases`: what learns, by which loss;
- `evaluation`: what a model is judged by;
- `data`: what it learns from;
- `command`, `console`: settings of commands, and what they show.

Beside them: `controllers`, the policies that act in the simulators (they also import `planners`),
`recording`, which lets them make an episode for `collect`; and `play`, where a person acts.
"""
