"""Objectives that learn from labels: ratings, purchases, classes; and what needs no fine-tuning, beside them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
import torch
from scipy.special import expit, logit

from pipelines.core.catalogue import GeneratorConfig, generate
from pipelines.core.config import FinetuneConfig
from pipelines.core.finetune.checkpoint import Standing
from pipelines.core.finetune.classification import Classification, class_figures, class_weights
from pipelines.core.finetune.head import PairHead, linear_head, score_of_pairs
from pipelines.core.finetune.labels import Labelled, stratified_split
from pipelines.core.finetune.loop import Training
from pipelines.core.finetune.network import Learner, TextNetwork
from pipelines.core.finetune.objective import Draws, Objective, draws_of
from pipelines.core.finetune.order import Order
from pipelines.core.finetune.pairwise import Pairwise, Purchase, Rating, labels_of
from pipelines.core.finetune.parallel import Workers
from pipelines.core.finetune.plain import baselines
from pipelines.core.finetune.tokens import Template, TokenTable
from tests.unit.tiny_models import load_tiny, token_table
from tests.unit.trainings import Recorder

BERT = Template((101,), (102,), (102,))


def table_of(*texts: list[int], titles: list[int] | None = None) -> TokenTable:
    """Texts of tokens, the first `titles` of each of which are the title."""
    lengths = titles or [len(t) for t in texts]
    fields = [[int(k >= n) for k in range(len(t))] for t, n in zip(texts, lengths, strict=True)]
    return TokenTable(
        pa.table(
            {
                "tokens": pa.array(texts, pa.list_(pa.int32())),
                "fields": pa.array(fields, pa.list_(pa.int8())),
            }
        )
    )


def pair_rows(*rows: tuple[int, int, float, list[int]]) -> pa.Table:
    users, items, labels, histories = zip(*rows, strict=True) if rows else ([], [], [], [])
    return pa.table(
        {
            "user_idx": pa.array(users, pa.int64()),
            "item_idx": pa.array(items, pa.int64()),
            "label": pa.array(labels, pa.float64()),
            "history": pa.array(histories, pa.list_(pa.int64())),
        }
    )


def settings(**values: object) -> FinetuneConfig:
    return FinetuneConfig(
        **{"objective": "rating", "max_tokens": 16, "max_history": 2, "pair": "together", **values}
    )


ITEMS = table_of([1, 2, 3], [4, 5], [6, 7, 8, 9], [], titles=[2, 1, 2, 0])
USERS = table_of([50, 51], [])


def rating(**values: object) -> Rating:
    return Rating(ITEMS, USERS, BERT, 3.5, settings(**values))


def purchase() -> Purchase:
    return Purchase(ITEMS, USERS, BERT, 0.2, settings(objective="purchase"))


def test_sequence_user_words_then_liked_titles_then_the_item() -> None:
    rows = pair_rows((0, 0, 4.0, [1, 2]), (1, 2, 1.0, [0]), (1, 3, 2.0, []))
    prepared = rating().prepare(rows, None)
    assert prepared.sequences == [
        [101, 50, 51, 102, 4, 102, 6, 7, 102, 1, 2, 3, 102],
        [101, 1, 2, 102, 6, 7, 8, 9, 102],  # a user without words
        [101, 102, 102],  # neither words nor history, and an item without text
    ]
    assert prepared.columns["labels"].tolist() == [4.0, 1.0, 2.0]


def test_sequence_users_without_texts_at_all() -> None:
    objective = Rating(ITEMS, None, BERT, 3.0, settings())
    assert objective.prepare(pair_rows((0, 1, 4.0, [0])), None).sequences == [[101, 1, 2, 102, 4, 5, 102]]


def test_sequence_the_item_keeps_half_of_the_room() -> None:
    items = table_of(list(range(1, 31)), list(range(40, 60)))
    objective = Rating(items, table_of(list(range(60, 90))), BERT, 3.0, settings(max_tokens=13))
    (found,) = objective.prepare(pair_rows((0, 0, 4.0, [1])), None).sequences
    # 13 - 3 special: five of the user, one of which is between their texts, and five of the item
    assert found == [101, 60, 61, 102, 40, 41, 102, 1, 2, 3, 4, 5, 102]


def test_sequence_a_short_item_leaves_its_room_to_the_user() -> None:
    objective = Rating(table_of([1]), table_of(list(range(60, 90))), BERT, 3.0, settings(max_tokens=13))
    (found,) = objective.prepare(pair_rows((0, 0, 4.0, [])), None).sequences
    assert found == [101, *range(60, 69), 102, 1, 102]


def test_sequence_draws_decide_which_titles_and_nothing_else_does() -> None:
    rows = pair_rows(*[(1, 3, 4.0, [0, 1, 2])] * 30)
    objective = rating(max_history=1)
    one, same, other = (objective.prepare(rows, draws_of(s, 0)).sequences for s in (0, 0, 1))
    assert one == same
    assert one != other
    assert {tuple(s) for s in one} == {(101, 1, 2, 102, 102), (101, 4, 102, 102), (101, 6, 7, 102, 102)}
    # as a second worker gets them
    assert objective.prepare(rows.slice(10), draws_of(0, 10)).sequences == one[10:]


def test_sequence_augmentation_only_with_draws() -> None:
    rows = pair_rows((0, 2, 4.0, [0]))
    objective = rating(token_dropout=0.9)
    assert objective.prepare(rows, None).sequences == rating().prepare(rows, None).sequences
    assert len(objective.prepare(rows, draws_of(0, 0)).sequences[0]) == 8  # one token of each, and the title


def test_sequence_each_text_apart() -> None:
    rows = pair_rows((0, 0, 4.0, [1, 2, 0]), (1, 3, 2.0, []))
    assert rating(pair="apart").prepare(rows, None).sequences == [
        ([101, 50, 51, 102], [101, 4, 102], [101, 6, 7, 102]),
        [101, 1, 2, 3, 102],
        ([101, 102],),  # neither words nor history
        [101, 102],
    ]


def test_sequence_no_rows() -> None:
    prepared = rating().prepare(pair_rows(), None)
    assert prepared.sequences == []
    assert prepared.columns["labels"].shape == (0,)


def test_sequence_a_template_without_special_tokens() -> None:
    objective = Rating(ITEMS, USERS, Template((), (9,), ()), 3.0, settings())
    assert objective.prepare(pair_rows((1, 3, 1.0, [])), None).sequences == [[9]]


def test_loss_of_ratings() -> None:
    outputs = torch.tensor([[[1.0]], [[4.5]]])
    columns = {"labels": torch.tensor([3.0, 4.0])}
    assert float(rating().loss(outputs, columns)) == pytest.approx(4 + 0.25)
    assert float(rating().disagreement(outputs, outputs + 2)) == pytest.approx(8)


def test_a_score_is_the_numbers_and_the_weighed_product() -> None:
    head = PairHead(2, 0.5)
    head.begin(torch.tensor([0.1, 0.2, 0.3, 0.4, 5.0, 7.0]), -1.0)
    user, item = np.array([0.6, 0.8]), np.array([0.8, 0.6])
    of_directions = 0.1 * 0.6 + 0.2 * 0.8 + 0.3 * 0.8 + 0.4 * 0.6
    expected = 2**0.5 * of_directions + 2 * (5.0 * 0.48 + 7.0 * 0.48) - 1
    vectors = torch.tensor(np.stack([3 * user, 0.1 * item]), dtype=torch.float32)
    outputs = head(vectors).detach().view(1, 2, -1)
    assert float(score_of_pairs(outputs)) == pytest.approx(expected)
    line = torch.tensor([[0.1, 0.2, 0.3, 0.4, 5.0, 7.0]])
    assert float((head.features(vectors) * line).sum() - 1) == pytest.approx(expected)
    assert float(score_of_pairs(torch.tensor([[[2.5]]]))) == 2.5
    loss = rating(pair="apart").loss(outputs, {"labels": torch.tensor([0.0])})
    assert float(loss) == pytest.approx(expected**2)


@pytest.mark.parametrize("make", [Rating, Purchase])
def test_a_head_of_pairs_begins_as_a_regression_of_vectors(make: type[Pairwise]) -> None:
    rng = np.random.default_rng(0)
    items = table_of(*[[i + 1] for i in range(40)])
    objective = make(items, None, BERT, 0.5, settings(pair="apart", max_history=1))
    vectors = {i: rng.normal(size=6) for i in range(41)}

    def encode(sequences: Sequence[Sequence[int] | tuple[Sequence[int], ...]]) -> torch.Tensor:
        texts = [entry[0] if isinstance(entry, tuple) else entry for entry in sequences]
        return torch.tensor(np.array([vectors[text[1] - 1] for text in texts]), dtype=torch.float32)

    history, item = rng.integers(40, size=(2, 3000))
    of_item = np.array([vectors[i][0] / np.linalg.norm(vectors[i]) for i in item])
    of_both = np.array(
        [
            vectors[h][1] * vectors[i][1] / np.linalg.norm(vectors[h]) / np.linalg.norm(vectors[i])
            for h, i in zip(history, item, strict=True)
        ]
    )
    truth = of_item + 4 * of_both
    labels = truth if make is Rating else (truth > np.median(truth)).astype(float)
    rows = pair_rows(
        *(
            (n, int(i), float(x), [int(h)])
            for n, (h, i, x) in enumerate(zip(history, item, labels, strict=True))
        )
    )
    head = PairHead(6, 0.0)
    objective.begin(head, encode, rows.slice(0, 2000))
    said = objective.raw(lambda sequences: head(encode(sequences)).detach(), rows.slice(2000))
    assert np.corrcoef(said, truth[2000:])[0, 1] > 0.97
    if make is Rating:
        np.testing.assert_allclose(said, truth[2000:], atol=0.05)


def test_a_head_does_not_begin_with_labels_that_are_all_the_same() -> None:
    head = PairHead(4, 0.5)
    rating(pair="apart").begin(head, lambda _: torch.randn(4, 4), pair_rows(*[(0, 0, 2.0, [])] * 2))
    assert not head.item.any()
    assert float(head.offset) == 0.5


def test_loss_of_purchases() -> None:
    outputs = torch.tensor([[[0.0]], [[2.0]]])
    expected = -np.log(0.5) - np.log(1 - expit(2.0))
    assert float(purchase().loss(outputs, {"labels": torch.tensor([1.0, 0.0])})) == pytest.approx(expected)


def test_loss_of_purchases_that_disagree() -> None:
    p, q = 0.3, 0.8
    divergence = 0.5 * (
        p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))
        + q * np.log(q / p) + (1 - q) * np.log((1 - q) / (1 - p))
    )  # fmt: skip
    one, other = torch.tensor([[[logit(p)]]]), torch.tensor([[[logit(q)]]])
    assert float(purchase().disagreement(one, other)) == pytest.approx(divergence)
    assert float(purchase().disagreement(one, one)) == 0


def test_loss_of_classes_with_weights_and_smoothing() -> None:
    weights = np.array([0.5, 2.0, 1.0], dtype=np.float32)
    made = classifier(weights, label_smoothing=0.3)
    logits = np.array([[1.0, 0.0, -1.0], [0.2, 0.1, 0.4]])
    logs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    target = 0.7 * np.eye(3)[[1, 2]] + 0.1
    expected = -(target * logs * weights).sum()
    found = made.loss(torch.tensor(logits[:, None], dtype=torch.float32), {"labels": torch.tensor([1, 2])})
    assert float(found) == pytest.approx(expected, rel=1e-6)


def test_loss_of_classes_that_disagree() -> None:
    p, q = np.array([0.2, 0.3, 0.5]), np.array([0.6, 0.3, 0.1])
    expected = 0.5 * ((p * np.log(p / q)).sum() + (q * np.log(q / p)).sum())
    one, other = (torch.tensor(np.log(x))[None, None] + 3 for x in (p, q))
    assert float(classifier(np.ones(3, dtype=np.float32)).disagreement(one, other)) == pytest.approx(expected)


def classifier(weights: npt.NDArray[np.float32], **values: object) -> Classification:
    config = settings(objective="classification", labels="labels.csv", **values)
    return Classification(table_of([1, 2]), BERT, weights, config)


def test_head_says_its_bias_before_it_has_learnt() -> None:
    head = linear_head(4, [0.5, -2.0])
    assert head(torch.randn(3, 4)).tolist() == [[0.5, -2.0]] * 3


def test_head_of_pairs_says_the_same_of_all_of_them_at_first() -> None:
    outputs = PairHead(4, 1.5)(torch.randn(6, 4)).view(3, 2, 10)
    assert score_of_pairs(outputs).tolist() == [1.5] * 3


def test_head_scale_of_the_vectors_does_not_matter() -> None:
    head = linear_head(64, [0.0])
    torch.nn.init.normal_(head[1].weight)  # type: ignore[index]
    vectors = torch.randn(
        3, 64
    )  # wide, as an encoder's are: of four numbers some are nearly equal, and the mean is not
    torch.testing.assert_close(head(vectors), head(1000 * vectors), rtol=1e-3, atol=1e-3)


def test_head_means_at_the_start() -> None:
    tokenizer, model = load_tiny("bert")
    network = TextNetwork(model, "mean", tokenizer.pad_token_id)
    for objective, start in ((rating(), 3.5), (purchase(), logit(0.2))):
        learner = Learner(network, objective.head(network))
        outputs = learner([[2, 5, 7], [2, 9, 3, 3]])
        assert outputs.shape == (2, 1)
        assert outputs[:, 0].tolist() == pytest.approx([start] * 2)


def test_head_a_mean_of_all_or_nothing_stays_finite() -> None:
    network = TextNetwork(load_tiny("bert")[1], "mean", 0)
    for mean in (0.0, 1.0):
        objective = Purchase(ITEMS, None, BERT, mean, settings())
        assert torch.isfinite(objective.head(network)(torch.zeros(1, 32))).all()


def test_figures_of_ratings() -> None:
    found = rating().figures(np.array([3.0, 5.0]), np.array([4.0, 2.0]))
    assert found["mae"] == pytest.approx(2)
    assert found["negative_mae"] == pytest.approx(-2)
    assert found["rmse"] == pytest.approx(np.sqrt(5))
    assert found["calibration_error"] == pytest.approx(2)  # two bins of one


def test_figures_of_purchases() -> None:
    found = purchase().figures(np.array([1.0, 0.0, 0.0]), logit(np.array([0.6, 0.7, 0.2])))
    assert found["auc"] == pytest.approx(0.5)
    assert found["log_loss"] == pytest.approx(-np.log([0.6, 0.3, 0.8]).mean())
    assert found["ece"] == pytest.approx((0.4 + 0.7 + 0.2) / 3)


def test_figures_of_one_kind_of_label_orders_nothing() -> None:
    assert purchase().figures(np.ones(3), np.array([1.0, 2.0, 3.0]))["auc"] == 0.5


def test_figures_of_classes() -> None:
    labels = np.array([0, 0, 1, 2])
    found = class_figures(labels, np.log(np.eye(3)[[0, 1, 1, 1]] * 0.7 + 0.1))
    assert found["accuracy"] == pytest.approx(0.5)
    # F1 of 2/3, of 2 * (1/3) / (4/3) and of nothing
    assert found["macro_f1"] == pytest.approx((2 / 3 + 0.5 + 0) / 3)
    assert found["log_loss"] == pytest.approx(-np.log(np.array([0.8, 0.1, 0.8, 0.1])).mean())
    assert found["ece"] == pytest.approx(0.3)


def test_figures_of_no_rows_are_nan() -> None:
    none = np.zeros(0)
    found = [rating().figures(none, none), purchase().figures(none, none)]
    found.append(class_figures(np.zeros(0, dtype=np.int64), np.zeros((0, 3))))
    assert all(np.isnan(value) for figures in found for value in figures.values())


def test_classes_weigh_the_same_and_rows_one_on_average() -> None:
    labels = np.array([0] * 6 + [1] * 3 + [2])
    weights = class_weights(labels, 3)
    assert weights[labels].mean() == pytest.approx(1)
    assert (weights * np.bincount(labels)).tolist() == pytest.approx([10 / 3] * 3)


def test_a_class_without_rows_weighs_nothing() -> None:
    assert class_weights(np.array([0, 0, 2, 2]), 3).tolist() == [1, 0, 1]


def test_the_mean_of_training() -> None:
    train = pair_rows((0, 0, 2.0, [1]), (0, 1, 4.0, [0]), *[(0, 2, 3.0, [0])] * 4)
    rows = pair_rows((1, 0, 5.0, [1]))
    vectors = np.eye(4, dtype=np.float32)
    assert baselines(rating(), train, rows, vectors)["mean"].tolist() == pytest.approx([3])


@pytest.mark.parametrize("is_rating", [True, False])
def test_what_the_cosine_tells_is_found(is_rating: bool) -> None:
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((200, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    pairs = rng.integers(200, size=(800, 2))
    cosine = (vectors[pairs[:, 0]] * vectors[pairs[:, 1]]).sum(axis=1)
    labels = 3 + cosine if is_rating else cosine > 0
    table = pair_rows(*((0, int(i), float(x), [int(h)]) for (h, i), x in zip(pairs, labels, strict=True)))
    objective = rating() if is_rating else purchase()
    rows = table.slice(600)
    found = {
        name: objective.figures(labels_of(rows), raw)
        for name, raw in baselines(objective, table.slice(0, 600), rows, vectors).items()
    }
    if is_rating:
        assert found["content"]["mae"] < 0.1 * found["mean"]["mae"]
    else:
        assert found["mean"]["auc"] == 0.5
        assert found["content"]["auc"] > 0.95


def test_users_who_say_something_and_have_done_nothing() -> None:
    vectors = np.eye(4, dtype=np.float32)
    rows = [(u, i, float(u == i), []) for u in range(4) for i in range(4)] * 3
    found = baselines(purchase(), pair_rows(*rows), pair_rows(*rows[:16]), vectors, vectors)
    assert purchase().figures(labels_of(pair_rows(*rows[:16])), found["content"])["auc"] == pytest.approx(1)


def train(
    objective: Objective,
    model: torch.nn.Module,
    pad: int,
    rows: pa.Table,
    held: pa.Table,
    config: FinetuneConfig,
) -> tuple[Training, Recorder, Standing]:
    network = TextNetwork(model, "mean", pad)
    order = Order(len(rows), config.batch_size, 1000, config.seed)

    def batches(first: int) -> Iterator[pa.Table]:
        return (rows.take(pa.array(numbers)) for numbers in order.steps(first))

    watch = Recorder()
    learner = Learner(network, objective.head(network))
    training = Training(learner, objective, config, order, held, Workers(), watch)
    return training, watch, training.run(batches)


QUICK = {
    "steps": 30, "batch_size": 16, "evaluate_every": 10, "learning_rate": 3e-3, "head_learning_rate": 1e-2,
    "max_tokens": 32, "train": "all", "precision": "float32",
}  # fmt: skip


def test_departments_from_texts_of_two_languages() -> None:
    made = generate(GeneratorConfig(n_items=800, n_users=20, n_interactions=200, chinese_share=0.5))
    shelf = made.items_df["categories"].map(lambda names: names[0])
    own = made.items_df[shelf.isin(["Books", "图书", "Home & Kitchen", "厨房", "Skincare", "护肤"])]
    names = {"Books": 0, "图书": 0}
    labels = np.array([names.get(c[0], 1) for c in own["categories"]], dtype=np.int64)
    assert len(np.unique(labels)) == 2
    labelled = Labelled(tuple(own["title"] + ". " + own["description"]), labels, ("book", "other"))
    given, held = stratified_split(labelled, 1000, seed=0)
    tokenizer, model = load_tiny("bert")
    config = settings(**QUICK, **{"objective": "classification", "labels": "x.csv", "class_weights": True})
    objective = Classification(
        token_table(tokenizer, labelled.texts), Template.of(tokenizer), class_weights(labels[given], 2), config
    )  # fmt: skip
    _, watch, standing = train(
        objective, model, tokenizer.pad_token_id, labelled.rows(given), labelled.rows(held), config
    )
    assert watch.losses[0] == pytest.approx(np.log(2), abs=0.3)  # all classes alike; weights of the batch
    assert np.mean(watch.losses[-5:]) < 0.6 * watch.losses[0]
    assert standing.curve[standing.best].figures["macro_f1"] > 0.8


@pytest.mark.parametrize("pair", ["together", "apart"])
@pytest.mark.parametrize("make", [Rating, Purchase])
def test_numbers_from_pairs(make: type[Pairwise], pair: str) -> None:
    made = generate(GeneratorConfig(n_items=300, n_users=20, n_interactions=200, chinese_share=0.5))
    language = made.items_df["title"].str.contains(r"[\u4e00-\u9fff]").to_numpy()
    rng = np.random.default_rng(0)
    # liked where the language is that of what the user liked before
    first, second = rng.integers(300, size=(2, 700))
    labels = (language[second]).astype(float) if make is Purchase else 2.0 + 2 * language[second]
    rows = pair_rows(
        *((0, int(i), float(x), [int(h)]) for h, i, x in zip(first, second, labels, strict=True))
    )
    tokenizer, model = load_tiny("bert")
    config = settings(**QUICK, pair=pair)
    objective = make(
        token_table(tokenizer, made.items_df["title"].tolist()), None, Template.of(tokenizer),
        float(labels[:600].mean()), config,
    )  # fmt: skip
    given, held = rows.slice(0, 600), rows.slice(600)
    training, watch, standing = train(objective, model, tokenizer.pad_token_id, given, held, config)
    figures = standing.curve[standing.best].figures
    start = standing.curve[0].figures
    assert np.mean(watch.losses[-5:]) < 0.8 * watch.losses[0]
    if make is Purchase:
        assert start["auc"] == 0.5
        assert figures["auc"] > 0.8
    else:
        assert start["mae"] == pytest.approx(1, abs=0.1)
        assert figures["mae"] < 0.7 * start["mae"]
    line = objective.calibrated(lambda sequences: training.learner(sequences).detach(), held)
    assert line.slope > 0


def test_classification_asks_for_draws_by_place() -> None:
    asked: list[int] = []
    draws: Draws = lambda place: (asked.append(place), np.random.default_rng(place))[1]  # noqa: E731
    classifier(np.ones(2, dtype=np.float32)).prepare(pa.table({"text_idx": [0, 0], "label": [0, 1]}), draws)
    assert asked == [0, 1]
