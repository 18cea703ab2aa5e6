"""ColaWorld: a world model co-trained with its latent actions, as Gymnasium environments.

Importing this package registers its environments, see `cola_env.registration`. What it exports
stands in `__init__.pyi`; nothing heavy is imported until it is asked for.

Floors of cola_env, from the top; each imports only from those below it, and none from another
package of ours:

    registration                       names for gym.make
    envs/                              dreams as Gymnasium environments
    goals/                             planning problems
    simulators/                        the real RoboDesk and LIBERO
    scoring/                           rewards and success classifiers
    models/                            the world model and its parts
    checkpoints                        weights: found, checked, loaded
    worlds, inputs, rollout            facts of worlds, what callers give, what planners get
    errors, files, processes
"""

import lazy_loader

from cola_env import processes as processes  # sees forks from now on
from cola_env import registration as registration

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
