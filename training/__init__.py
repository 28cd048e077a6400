"""What scripts share: the state of a training, the folder of a run, checked files, the process group."""
