"""RoboDesk-v0: the real RoboDesk as a Gymnasium environment, the twin of the dream.

Source of the simulator and its tasks: the PyPI package robodesk
(https://github.com/google-research/robodesk); camera, action repeat and the seven tasks of VP2:
Tian et al., "A Control-Centric Benchmark for Video Prediction" (ICLR 2023).
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cola_env.inputs import check_count
from cola_env.simulators.rendering import get_profile, import_dm_control
from cola_env.simulators.robodesk.camera import DeskCamera
from cola_env.simulators.simulator_env import SimulatorEnv, Snapshot
from cola_env.worlds import ROBODESK_TASKS

if TYPE_CHECKING:
    from cola_env.scoring.rewards import Reward, RewardName
    from cola_env.simulators.robodesk.desk import Desk

OBJECTS = ("ball", "upright_block", "flat_block")


class RoboDeskEnv(SimulatorEnv):
    """A Franka arm at a desk, seen through VP2's camera.

    Observation: uint8 RGB (image_size, image_size, 3). Action: float32 (5,) in [-1, 1], clipped
    to it: hand x, y, z (a full action held for the 50 ticks moves about 8 cm), wrist, gripper.
    terminated: the task succeeded during this step. info: {"success": the same bool}.

    task: one of ROBODESK_TASKS.
    action_repeat: control ticks an action is held for; VP2 uses 50.
    rendering: "vp2" (the package's look) or "fast" (no shadows, reflections or multisampling).
    reward: "success" (1 at the first success of an episode), "sparse" or "dense" (the package's
        own, summed over the ticks); or a Reward, or what `make_reward` makes one of, of the frame
        and the goal in `reset(options={"goal": frame})`. The shipped success classifier knows
        "fast" frames of 64 px.
    max_episode_steps: truncates after so many steps; None or -1 is no limit (`gym.make` sets its
        own, 15).
    """

    simulator = "RoboDesk"
    action_dim = 5
    own_rewards = ("success", "sparse", "dense")
    judges = ("tick", "vp2")

    def __init__(
        self,
        task: str = "open_slide",
        *,
        action_repeat: int = 50,
        rendering: str = "vp2",
        image_size: int = 64,
        reward: "RewardName | Reward" = "success",
        max_episode_steps: int | None = None,
        render_mode: str | None = None,
    ) -> None:
        """Raises ColaWorldError for an unknown task, profile, reward or render mode and for counts
        below 1, ImportError when the robodesk package is missing, and RuntimeError without OpenGL.
        """
        self.check_choice("task", task, ROBODESK_TASKS)
        check_count("action_repeat", action_repeat)
        profile = get_profile(rendering)
        super().__init__(task, rendering, image_size, reward, max_episode_steps, render_mode)
        import_dm_control()
        from cola_env.simulators.robodesk.desk import Desk

        self._desk = Desk(task, action_repeat, "dense" if reward == "dense" else "sparse")
        self._camera = DeskCamera(self._desk.simulation, profile, image_size)

    @property
    def desk(self) -> "Desk":
        """The simulation without pixels."""
        return self._desk

    @property
    def physics(self) -> Any:
        """The dm_control Physics, with named access; read it, write through `restore`."""
        return self._desk.simulation

    def successes(self) -> dict[str, bool]:
        """Which of ROBODESK_TASKS the present state fulfils."""
        self._check_started()
        return {task: self._desk.succeeds(task) for task in ROBODESK_TASKS}

    def judged(self, judge: str, succeeded: bool) -> bool:
        """ "vp2" looks at the state after the step alone: the other blocks may have been moved
        before, see `Desk.succeeds_wherever`."""
        succeeded = super().judged(judge, succeeded)
        return self._desk.succeeds_wherever(self.task) if judge == "vp2" else succeeded

    def _state(self) -> Snapshot:
        """`original_positions` (3, 3) of the objects at the episode's start in metres; `simulation`
        (S,): MuJoCo's integration state."""
        original = self._desk.original_pos
        return {
            "original_positions": np.stack([original[name] for name in OBJECTS]),
            "simulation": self._desk.get_state(),
        }

    def _state_shapes(self) -> dict[str, tuple[int, ...]]:
        simulation = self._desk.get_state().shape
        return {"original_positions": (len(OBJECTS), 3), "simulation": simulation}

    def _set_state(self, state: Snapshot) -> None:
        self._desk.set_state(state["simulation"])
        self._desk.original_pos = dict(zip(OBJECTS, state["original_positions"], strict=True))

    def begin_at(self, qpos: NDArray[np.float64], qvel: NDArray[np.float64]) -> Snapshot:
        """Begins an episode where all joints have these positions (38,) and velocities (35,); the
        random generator stays as it is. Returns its snapshot."""
        self._desk.new_episode_at(qpos, qvel)
        self._begun()
        return self.snapshot()

    @staticmethod
    def to_vector(state: Mapping[str, NDArray[np.float64]]) -> NDArray[np.float64]:
        """A snapshot as one float64 vector (11 + S,)."""
        keys = ("episode", "original_positions", "simulation")
        return np.concatenate([np.ravel(state[key]) for key in keys])

    @staticmethod
    def to_snapshot(vector: NDArray[np.float64]) -> Snapshot:
        """The snapshot that `to_vector` flattened."""
        vector = np.array(vector, dtype=np.float64)
        episode, original, simulation = np.split(vector, (2, 11))
        return {
            "episode": episode,
            "original_positions": original.reshape(3, 3),
            "simulation": simulation,
        }

    def close(self) -> None:
        """Frees the simulation and its OpenGL context."""
        self._desk.simulation.free()

    def _start(self, options: Mapping[str, Any]) -> None:
        """From a snapshot the objects' original positions stay those of its own episode."""
        if "state" in options:
            self.restore(options["state"])
        else:
            self._desk.new_episode(self.np_random)

    def _simulate(self, action: NDArray[np.float32]) -> tuple[float, bool]:
        return self._desk.advance(action)
