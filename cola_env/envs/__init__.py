"""Dreams as Gymnasium environments: one world, many side by side, and the dream beside its twin.

`dream.py` is the dream, `dream_env.py` and `vector_env.py` its environments, `starts.py` where
episodes begin, `dream_model.py` what is dreamt with, `pair.py` and `step_limit.py` what gym.make
adds.
May import: all of cola_env below it.
"""
