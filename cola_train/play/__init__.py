"""Playing in a dream beside its real twin, on a page: `python -m cola_train.play`, in a notebook
`cola_train.play.notebook.show()`."""
