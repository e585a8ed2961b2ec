"""Which few questions tell most about a new user: "do you like this item?", asked where the answer would help most.

Dimensions: S hypothetical users, D a served vector, m items that may be asked about, N items to recommend from.

Who the new user is, is not known; they will be like somebody. The belief is a weight for each of S hypothetical users
(a sample of those the model knows, see `respondents`), so it has the many peaks that tastes have and one Gaussian has
not; words and answers change the weights by Bayes' rule. With `r` (S, N) how much each would want each item, in
standard deviations of their own, the best list under a belief w is the k largest of E_w[r]. The gain of a question is
the expected value of its answer (Boutilier, Zemel and Marlin 2003, "Active collaborative filtering"):

    gain_j = know_j * ( p_j top_k(E[r | like j]) + (1 - p_j) top_k(E[r | dislike j]) - top_k(E[r]) )

that is, by how much the items then shown would be wanted more. Information about the user's row alone, log det H, is
not that: it is had from long odd vectors that are never shown. The trace over all scores under H counts certainty about
what nobody would be shown, and so does mutual information (BALD, Houlsby et al. 2011), which screens here. `know_j`:
who has never heard of an item says nothing of it (Rashid et al. 2002; 2008; Elahi, Ricci and Rubens 2016 survey both
sides). That answers are few and the next question should follow from them is from Golbandi et al. 2011 and
Christakopoulou et al. 2016. What was compared, and by how much it is better: docs/decisions/0018.

A batch is chosen one by one; the covariance of what is left after a question's answer is a rank-1 update (a Schur
complement), so that questions of one batch are not redundant.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

FloatArray = npt.NDArray[np.float32]
DoubleArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

LIST_LENGTH = 20
"""k: of the list whose worth counts."""
_LIKED_SHARE = 0.85
"""Quantile of all scores from which an item is liked."""
_NOISE = 0.1
"""Variance of an answer's chance, as a share of the variance of an item's score."""
_SURE = 0.98
"""No answer is more likely than this: people err."""
_WORDS = 10.0
"""How much a likeness of wants to what the words speak of counts (the concentration of a von Mises-Fisher)."""
_LEAST_SUPPORT = 10.0
"""Hypothetical users that the belief is spread over at least, however much is known."""
_SCREENED = 200
"""Items whose gain is computed exactly, the best by mutual information."""
_LEAST_SHOWN = 5


@dataclass(frozen=True)
class Question:
    """One item to ask about.

    Attributes:
        row: of the item.
        gain: by how much the k items then shown would be wanted more, in standard deviations of a user's scores.
        like_chance: that the answer is "like", where the user knows the item.

    """

    row: int
    gain: float
    like_chance: float


@dataclass(frozen=True)
class Answered:
    """What is known of the user's taste.

    Attributes:
        items: (a, D) vectors of items that they did like or did not.
        liked: (a,) which.
        words: (D,) the vector served for what they say alone; None: they say nothing.

    """

    items: FloatArray
    liked: BoolArray
    words: FloatArray | None = None


class Survey:
    """Hypothetical users and what they would say and want; made once, for the items of one catalogue.

    Attributes:
        rows: (m,) items that may be asked about.

    """

    def __init__(
        self, users: FloatArray, rows: IntArray, items: FloatArray, known: DoubleArray, shown: FloatArray,
        n_catalogue: int,
    ) -> None:  # fmt: skip
        """Score every item of interest by every hypothetical user.

        Args:
            users: (S, D) served vectors.
            rows: (m,) of the items that may be asked about.
            items: (m, D) their vectors.
            known: (m,) chance that somebody new knows them, see `respondents.familiarity`.
            shown: (N, D) vectors of a sample of those that may be recommended.
            n_catalogue: how many that is a sample of.

        """
        self.rows = rows
        self._users, self._shown, self._familiarity = users, shown, known
        scores = users @ items.T
        self._bar = float(np.quantile(scores, _LIKED_SHARE)) if scores.size else 0.0
        spread = float(np.sqrt(_NOISE) * scores.std(axis=0).mean()) if scores.size else 1.0
        self._spread = max(spread, 1e-9)
        self._likes = self._like_chance(scores)
        self._chance_alone = _entropy(self._likes)  # of an answer whose user is known
        self._wants = _standardize(users @ shown.T)
        share = LIST_LENGTH * len(shown) / max(n_catalogue, 1)
        self._k = min(len(shown), max(_LEAST_SHOWN, min(LIST_LENGTH, round(share))))

    @property
    def like_chances(self) -> FloatArray:
        """(S, m) that a hypothetical user likes an item."""
        return self._likes

    def weights(self, answered: Answered) -> DoubleArray:
        """(S,) the belief, adding up to 1."""
        evidence = np.zeros(len(self._users))
        if len(answered.liked):
            likes = self._like_chance(self._users @ answered.items.T)
            evidence += np.log(np.where(answered.liked, likes, 1.0 - likes)).sum(axis=1)
        if answered.words is not None and len(self._shown):
            wanted = _standardize((self._shown @ answered.words)[None])[0]
            evidence += _WORDS * (self._wants @ wanted) / len(self._shown)
        return _spread_out(evidence)

    def ask(self, answered: Answered, n: int, may_ask: BoolArray) -> list[Question]:
        """The n best questions, the best first, each in view of those before it; fewer where there are fewer.

        Args:
            answered: what is known.
            n: how many.
            may_ask: (m,) which of `rows` are still to be asked about.

        """
        open_ = np.flatnonzero(may_ask)
        if not len(open_) or not len(self._shown):
            return []
        weights = self.weights(answered)
        single = weights.astype(np.float32)
        chance = (single @ self._likes).astype(np.float64)
        told = self._familiarity[open_] * (_entropy(chance) - single @ self._chance_alone)[open_]
        most = max(_SCREENED, n)
        if len(open_) > most:
            open_ = np.sort(open_[np.argpartition(-told, most - 1)[:most]])
        joint = joint_covariance(weights, self._likes[:, open_], self._wants)
        chosen = choose_batch(joint, self._familiarity[open_], self._k, n)
        return [Question(int(self.rows[open_[j]]), gain, float(chance[open_[j]])) for j, gain in chosen]

    def _like_chance(self, scores: FloatArray) -> FloatArray:
        """P(like) of probit form: the score and some chance above the bar."""
        likely = ndtr((scores - self._bar) / self._spread)
        return np.asarray((1.0 - _SURE) + (2.0 * _SURE - 1.0) * likely, dtype=np.float32)


@dataclass
class Joint:
    """First and second moments of answers and wants under a belief.

    Attributes:
        like: (m,) P(like).
        wanted: (N,) expected wants.
        with_answers: (m, m) covariance of the answers, as 1 for like and 0 for dislike; answers are independent
            given the user.
        with_wants: (m, N) covariance of answers and wants.

    """

    like: DoubleArray
    wanted: DoubleArray
    with_answers: DoubleArray
    with_wants: npt.NDArray[np.floating]


def joint_covariance(weights: DoubleArray, likes: FloatArray, wants: FloatArray) -> Joint:
    """Moments of the answers to m questions and of the wants for N items.

    Args:
        weights: (S,) the belief.
        likes: (S, m) P(like | user).
        wants: (S, N).

    """
    like: DoubleArray = np.asarray(weights @ likes, dtype=np.float64)
    wanted: DoubleArray = np.asarray(weights @ wants, dtype=np.float64)
    centred = likes - like.astype(np.float32)
    weighed = weights.astype(np.float32)[:, None] * centred
    with_answers = (weighed.T @ centred).astype(np.float64)
    with_answers.flat[:: len(like) + 1] = like * (1.0 - like)  # of one answer itself, its chance included
    return Joint(like, wanted, with_answers, weighed.T @ wants)


def answer_gain(joint: Joint, k: int) -> DoubleArray:
    """(m,) expected rise of the mean of the k most wanted items by each answer; never below 0, for max is convex."""
    like, now = joint.like, _top(joint.wanted[None], k)[0]
    liked = _top(joint.wanted + joint.with_wants / like[:, None], k)
    disliked = _top(joint.wanted - joint.with_wants / (1.0 - like)[:, None], k)
    return np.asarray(np.maximum(like * liked + (1.0 - like) * disliked - now, 0.0))


def choose_batch(joint: Joint, familiarity: DoubleArray, k: int, n: int) -> list[tuple[int, float]]:
    """Greedily, n places of the m questions with their gains; after each, what its answer will tell is taken out.

    With probability `familiarity` the answer comes; for the best linear estimate it takes Cov(., a) Cov(a, .)' / Var(a)
    from every covariance.
    """
    left, chosen = Joint(joint.like, joint.wanted, joint.with_answers.copy(), joint.with_wants.copy()), []
    is_open = np.ones(len(familiarity), dtype=bool)
    for _ in range(min(n, len(familiarity))):
        gain = np.where(is_open, familiarity * answer_gain(left, k), -1.0)
        best = int(np.argmax(gain))
        chosen.append((best, float(gain[best])))
        is_open[best] = False
        if len(chosen) < n:
            condition(left, best, float(familiarity[best]))
    return chosen


def condition(joint: Joint, question: int, share: float = 1.0) -> None:
    """Take the answer to one question out of the covariances, in place; `share` of it where it may not come."""
    column = joint.with_answers[:, question].copy()
    factor = share * column / max(joint.with_answers[question, question], 1e-12)
    joint.with_wants -= np.outer(factor, joint.with_wants[question]).astype(np.float32)
    joint.with_answers -= np.outer(factor, column)


def _standardize(scores: FloatArray) -> FloatArray:
    """Each row with mean 0 and standard deviation 1: whose scores are large does not count for more."""
    centred = scores - scores.mean(axis=1, keepdims=True) if scores.shape[1] else scores
    spread = centred.std(axis=1, keepdims=True) if scores.shape[1] else np.ones((len(scores), 1))
    return np.asarray(centred / np.where(spread > 1e-9, spread, 1.0), dtype=np.float32)


def _entropy(chance: FloatArray | DoubleArray) -> npt.NDArray[np.floating]:
    """Of a like and a dislike, in nats; chances are strictly between 0 and 1."""
    return np.asarray(-(chance * np.log(chance) + (1.0 - chance) * np.log1p(-chance)))


def _spread_out(evidence: DoubleArray) -> DoubleArray:
    """Weights of these log-likelihoods, tempered until they are spread over enough hypothetical users.

    Kish's effective sample size, as in tempered sequential Monte Carlo (Jasra et al. 2011): a long history would leave
    one of a sample, and with it false certainty.
    """
    evidence = evidence - evidence.max(initial=-np.inf) if len(evidence) else evidence
    least = min(_LEAST_SUPPORT, len(evidence) / 2)
    heat = 1.0
    while True:
        weights = np.exp(heat * evidence)
        weights /= weights.sum()
        if 1.0 / np.square(weights).sum() >= least:
            return np.asarray(weights)
        heat *= 0.8


def _top(wanted: npt.NDArray[np.floating], k: int) -> DoubleArray:
    """(rows,) mean of the k largest of each row."""
    n = wanted.shape[-1]
    return np.asarray(np.partition(wanted, n - k, axis=-1)[:, n - k :].mean(axis=-1), dtype=np.float64)
