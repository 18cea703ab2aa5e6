"""Training data: what `data=` names, as clips.

`sources` opens it. Every kind is an `EpisodeSource` (`episode_source`): `lerobot` (its files in
`lerobot_files`, written by `lerobot_writer`), `demo_files` (HDF5 files in one of `demo_layouts`,
read by `hdf5`) and `video`; `file_index` remembers what is in which file, `action_scale` brings
actions to [-1, 1]. Clips are drawn from `clips` in memory, from a `stream` that is decoded on
demand, or from a `mixture` of both; `latent_cache` encodes them once, `batches` makes the batch of
a step. `labelled_frames` are for the success classifiers.

May import: cola_env and, of cola_train, `console`.
"""
