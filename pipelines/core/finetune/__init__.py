"""Fine-tuning of a text encoder: objectives, network, loop. No Ray: where rows come from and reports go is told."""
