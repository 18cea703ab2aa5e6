"""Opens a dream to play in, beside the real simulator: `cola play`.

Open the address that it prints; docs/play.md has the keys.
"""

from __future__ import annotations

import asyncio
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from cola_train.command import command
from cola_train.play.driver import DriverConfig
from cola_train.play.session import PlayConfig


@command("play", stopped="Stopped; what was recorded is kept.")
def main(config: DictConfig) -> None:
    from cola_train.play.server import serve  # says how to install aiohttp

    torch.set_num_threads(config.threads)
    settings: Any = OmegaConf.to_container(config)
    host, port, _ = settings.pop("host"), settings.pop("port"), settings.pop("threads")
    driver = DriverConfig(**settings.pop("driver"))
    print("Loading the dream ...", flush=True)
    asyncio.run(serve(PlayConfig(**settings, driver=driver), host, port, tell))


def tell(address: str, port: int) -> None:
    print(
        f"Play at {address}\n"
        f"From another computer, first: ssh -L {port}:127.0.0.1:{port} THIS_MACHINE\n"
        "Ctrl-C ends it.",
        flush=True,
    )


if __name__ == "__main__":
    main()
