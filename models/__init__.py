"""Text features, training, evaluation, prediction, near duplicates. Frames in, frames out."""
