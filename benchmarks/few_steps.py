"""What fewer sampling steps cost: `python -m benchmarks.few_steps data=FOLDER [student=FOLDER]`.

The same weights in many guided steps, the teacher, and in fewer without guidance; and a student
that was distilled from them (`python -m cola_train recipe=distill_mini`). Rollouts over held-out
episodes: PSNR on the moving pixels, and how far the imagined latents of the first frame lie from
the teacher's. Prints a table and writes OUT/few_steps.json.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from omegaconf import DictConfig

from benchmarks.vp2_protocol.contestants import plain
from cola_env.checkpoints import find_checkpoint, load_model
from cola_env.files import write_text
from cola_env.models.world_model import ColaWorldModel
from cola_train.command import command
from cola_train.data.clips import TrainingData
from cola_train.data.encoding import encoded
from cola_train.evaluation.horizon import multi_step_psnr
from cola_train.evaluation.likeness import likeness
from cola_train.runs import data_of, held_out_of

Rows = dict[str, dict[str, float]]


def measure(
    teacher: ColaWorldModel, student: ColaWorldModel | None, clips: TrainingData, config: DictConfig
) -> Rows:
    """By sampler: PSNR (dB) of the first and the last imagined frame under its own latent actions
    (a "direct" model: its real ones) and the adapter's, and the distance to the teacher."""
    best = teacher.sampler(config.steps, config.guidance)
    samplers = {f"teacher, {config.steps} steps, guidance {config.guidance}": best}
    for steps in config.fewer:
        samplers[f"teacher, {steps} step(s)"] = teacher.sampler(steps, 1.0)
    if student is not None:
        steps = student.config.num_inference_steps
        samplers[f"student, {steps} step(s)"] = student.sampler(steps, 1.0)
    rows = {}
    for name, sampler in samplers.items():
        sampler.model.register_to_config(
            num_inference_steps=sampler.steps, guidance_scale=sampler.guidance_scale
        )
        by_step = multi_step_psnr(sampler.model, clips, config.horizon, count=config.clips)
        near = likeness(sampler, best, clips, config.length, config.clips)
        rows[name] = {
            f"{kind}_{at}": values[index]
            for kind, values in by_step.items()
            for at, index in (("first", 0), ("last", -1))
        }
        rows[name]["to_teacher"] = near["to_teacher"]
        print(f"{name}: " + "  ".join(f"{k} {v:.3g}" for k, v in rows[name].items()), flush=True)
    return rows


def table(rows: Rows) -> str:
    columns = list(next(iter(rows.values())))
    lines = [f"| sampler | {' | '.join(columns)} |", f"|---{'|---' * len(columns)}|"]
    for name, row in rows.items():
        lines.append(f"| {name} | {' | '.join(f'{row[key]:.2f}' for key in columns)} |")
    return "\n".join(lines)


@command("few_steps")
def main(config: DictConfig) -> None:
    torch.set_num_threads(config.threads)
    teacher = load_model(config.teacher, config.device)
    student = None if config.student is None else load_model(config.student, config.device)
    sources = data_of(find_checkpoint(config.teacher), plain(config.data))
    held_out = held_out_of(sources, teacher, with_actions=True)
    rows = measure(teacher, student, encoded(held_out, teacher, cache=None), config)
    write_text(Path(config.out) / "few_steps.json", json.dumps(rows, indent=1) + "\n")
    print(table(rows))


if __name__ == "__main__":
    main()
