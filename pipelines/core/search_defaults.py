"""What is searched when the configuration says nothing: per model, in the shapes of `tune.search`."""

from __future__ import annotations

OURS = "kindling"
FINETUNE = "finetune"
"""What is tuned where it is no model but the teaching of the encoder; also the section of its settings."""
OF_BASELINES = "evaluate.baseline_settings"
"""Where the settings of baselines are in a configuration."""

SPACES: dict[str, dict[str, object]] = {
    OURS: {
        "factorize.n_factors": {"choices": [64, 128, 192]},
        "factorize.alpha": [1.0, 60.0],
        "factorize.user_regularization": [0.5, 100.0],
        "factorize.item_regularization": [1.0, 300.0],
        "factorize.user_frequency_power": [0.0, 1.0, "linear"],
        "factorize.item_frequency_power": [0.0, 1.0, "linear"],
        "factorize.user_text_fade": {"choices": [0.0, 10.0, 30.0, 100.0]},
        "factorize.item_text_fade": {"choices": [0.0, 3.0, 10.0, 30.0]},
        "factorize.user_ridge": [0.03, 100.0],
        "factorize.item_ridge": [0.03, 100.0],
        "factorize.cold_ridge": {
            "choices": [0.0, 0.03, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0]
        },  # 0 is item_ridge
        "factorize.evidence_power": [0.0, 1.0, "linear"],
        "blend.history_power": [0.05, 0.8, "linear"],
        "blend.gamma": {"choices": [0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5]},
        "blend.text_fade": {"choices": [0.0, 0.05, 0.1, 0.2, 0.3, 0.45]},
        "blend.cold_scale": {"choices": [0.7, 0.85, 1.0, 1.2, 1.5, 2.0]},
    },
    "popularity": {},
    "bm25": {
        f"{OF_BASELINES}.bm25_k1": [0.3, 3.0],
        f"{OF_BASELINES}.bm25_b": [0.0, 1.0, "linear"],
        f"{OF_BASELINES}.bm25_terms": [20, 1000],
    },
    "content": {f"{OF_BASELINES}.own_text_items": [0.1, 10.0]},
    "als": {
        f"{OF_BASELINES}.als_alpha": [1.0, 100.0],
        f"{OF_BASELINES}.als_regularization": [1.0, 1000.0],
    },
    "als_text": {
        f"{OF_BASELINES}.als_alpha": [1.0, 100.0],
        f"{OF_BASELINES}.als_regularization": [1.0, 1000.0],
        f"{OF_BASELINES}.als_text_ridge": [0.03, 1000.0],
    },
    "irspack": {
        f"{OF_BASELINES}.irspack_alpha0": [0.003, 1.0],
        f"{OF_BASELINES}.irspack_reg": [0.0003, 0.1],
        f"{OF_BASELINES}.irspack_nu": [0.5, 1.5, "linear"],
        f"{OF_BASELINES}.irspack_item_ridge": [0.03, 1000.0],
        f"{OF_BASELINES}.irspack_user_ridge": [0.03, 1000.0],
    },
    "cmfrec": {
        f"{OF_BASELINES}.cmfrec_lambda": [1.0, 300.0],
        f"{OF_BASELINES}.cmfrec_alpha": [1.0, 100.0],
        f"{OF_BASELINES}.cmfrec_w_item": [0.3, 300.0],
        f"{OF_BASELINES}.cmfrec_w_user": [0.1, 100.0],
    },
}
"""What is searched when `tune.search` says nothing about a model."""
_OF_HEADS: dict[str, object] = {
    "finetune.learning_rate": [5e-6, 5e-4],
    "finetune.head_learning_rate": [1e-4, 1e-2],
    "finetune.layer_decay": [0.6, 1.0, "linear"],
    "finetune.dropout": {"choices": [0.0, 0.1]},
    "finetune.token_dropout": {"choices": [0.0, 0.1, 0.2]},
}
_OF_PAIRS = {**_OF_HEADS, "finetune.pair": {"choices": ["together", "apart"]}}
FINETUNE_SPACES: dict[str, dict[str, object]] = {
    "contrastive": {
        "finetune.learning_rate": [5e-6, 5e-4],
        "finetune.temperature": [0.01, 0.2],
        "finetune.history_share": [0.0, 1.0, "linear"],
        "finetune.popularity_correction": [0.0, 1.0, "linear"],
        "finetune.layer_decay": [0.6, 1.0, "linear"],
        "finetune.token_dropout": {"choices": [0.0, 0.1, 0.2]},
    },
    "distillation": {
        "finetune.learning_rate": [2e-5, 1e-3],
        "finetune.layer_decay": [0.6, 1.0, "linear"],
    },
    "rating": _OF_PAIRS,
    "purchase": _OF_PAIRS,
    "classification": {**_OF_HEADS, "finetune.label_smoothing": {"choices": [0.0, 0.05, 0.1]}},
    "next_behaviour": {
        "finetune.learning_rate": [5e-6, 5e-4],
        "finetune.layer_decay": [0.6, 1.0, "linear"],
        "finetune.dropout": {"choices": [0.0, 0.1]},
        "finetune.candidate_loss": {"choices": [0.0, 0.3, 1.0]},
        "finetune.discount": [0.0, 1.0, "linear"],
    },
}
"""The same for the teaching of the encoder, by its objective."""
_SHARED = ("own_text_items", "query_items", "history_power")
KEYS_OF: dict[str, tuple[str, ...]] = {
    "popularity": (),
    "bm25": ("bm25_", *_SHARED),
    "content": _SHARED,
    "als": ("als_alpha", "als_regularization", "n_factors", "iterations"),
    "als_text": ("als_", "n_factors", "iterations", *_SHARED),
    "irspack": ("irspack_", "n_factors", *_SHARED),
    "cmfrec": ("cmfrec_", "n_factors", *_SHARED),
}
"""How the names of a baseline's settings begin."""
