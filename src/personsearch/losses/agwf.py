"""Losses with the adaptive gradient weighting function of Trident (Han et al. 2021).

The derivative of a softmax loss by a similarity S_ik is a weighting function F_k(S_i, y_i) (eq. 3
and 4). Scaling the similarities by the confidence alpha_i that proposal i shows a person scales
both how strong and how sensitive this weight is (eq. 5):

    G_k(S_i, alpha_i, y_i) = alpha_i F_k(alpha_i S_i, y_i)

Each loss here is the one whose derivative has this form. All are means over their samples, in
float32, 0 without samples, and raise a `TrainingError` for shapes that disagree.
"""

import torch
from torch import Tensor
from torch.nn import functional

from personsearch.errors import TrainingError


def identity_loss(
    similarity: Tensor,  # S (N, K), with the rows of the lookup table and the queue
    confidence: Tensor,  # alpha (N,)
    targets: Tensor,  # y (N,) int64, columns of `similarity`; -1 leaves a proposal out
    temperature: float = 1 / 30,  # tau_1
) -> Tensor:
    """Return L_id of labelled proposals (eq. 7), mean over them.

    log(1 + sum_{k != y_i} exp(alpha_i (S_ik - S_iy_i) / tau_1))
    """
    _expect("confidence", confidence, similarity.shape[:1], "one alpha a proposal")
    _expect("targets", targets, similarity.shape[:1], "one identity a proposal")
    with torch.autocast(similarity.device.type, enabled=False):
        similarity, confidence = similarity.float(), confidence.float()
        if not (targets >= 0).any():
            return similarity.sum() * 0.0
        # The form above is cross-entropy of alpha S / tau, written by differences. The published
        # programs of OIM multiply by the inverse, which rounds otherwise.
        logits = confidence[:, None] * similarity * (1.0 / temperature)
        return functional.cross_entropy(logits, targets, ignore_index=-1)


def binary_loss(target_similarity: Tensor, confidence: Tensor, temperature: float = 2.0) -> Tensor:
    """Return L_bin of labelled proposals (eq. 8), mean over N: similarities are high themselves.

        log(1 + exp((1 - alpha_i S_iy_i) / tau_2))

    S_iy_i (N,) is the similarity with the proposal's own identity, alpha_i (N,) `confidence`, and
    tau_2 `temperature`.
    """
    _expect("confidence", confidence, target_similarity.shape, "one alpha a proposal")
    with torch.autocast(target_similarity.device.type, enabled=False):
        target_similarity, confidence = target_similarity.float(), confidence.float()
        if not len(confidence):
            return target_similarity.sum() * 0.0
        return functional.softplus((1.0 - confidence * target_similarity) / temperature).mean()


def unlabelled_loss(
    similarity: Tensor,  # S (N, L), with the lookup table alone
    confidence: Tensor,  # alpha (N,)
    # S_bar, a scalar: the mean similarity of the labelled proposals with their own identity
    # (eq. 10), in place of the similarity with the unknown one.
    reference_similarity: Tensor,
    temperature: float = 1 / 30,  # tau_1
) -> Tensor:
    """Return L_un of people without an identity (eq. 9), mean over N.

    log(1 + sum_k exp(alpha_i (S_ik - S_bar) / tau_1))
    """
    _expect("confidence", confidence, similarity.shape[:1], "one alpha a proposal")
    with torch.autocast(similarity.device.type, enabled=False):
        similarity, confidence = similarity.float(), confidence.float()
        if not len(confidence):
            return similarity.sum() * 0.0
        reference = torch.as_tensor(reference_similarity).to(similarity)
        relative = confidence[:, None] * (similarity - reference) / temperature
        # The zero beside the exponents is the 1 of the logarithm.
        return functional.pad(relative, (1, 0)).logsumexp(dim=1).mean()


def part_loss(
    logits: Tensor,  # P (N, P, P + 1): proposal, part, class; the last class is background
    confidence: Tensor,  # alpha (N,)
    targets: Tensor,  # z (N, P) int64
    temperature: float = 1 / 10,  # tau_3
) -> Tensor:
    """Return L_part of the parts of all proposals (eq. 11), mean over N P.

    log(1 + sum_{k != z_ij} exp(alpha_i (P_ijk - P_ijz_ij) / tau_3))
    """
    _expect("confidence", confidence, logits.shape[:1], "one alpha a proposal")
    _expect("targets", targets, logits.shape[:2], "one class a part")
    with torch.autocast(logits.device.type, enabled=False):
        logits, confidence = logits.float(), confidence.float()
        if not len(confidence):
            return logits.sum() * 0.0
        scaled = confidence[:, None, None] * logits / temperature
        return functional.cross_entropy(scaled.flatten(0, 1), targets.flatten())


def weighting_curves(
    scores: Tensor,  # S_i0 (M,), of the wrong class
    confidences: Tensor,  # (A,), values of alpha
    true_score: float = 0.5,  # S_i1
    temperature: float = 0.3,  # tau
) -> Tensor:
    """Return G_0(S_i, alpha_i, 1) of two classes (eq. 5, figure 3), from `identity_loss` itself.

    With alpha = 1 it is F_0(S_i, 1), the weighting function of plain cross-entropy (eq. 4).

    Returns:
        (A, M): for each alpha the weight of the gradient of S_i0, between 0 and alpha / tau.
    """
    alphas, wrong = torch.cartesian_prod(confidences.detach().float(), scores.float()).unbind(1)
    similarity = torch.stack([wrong, torch.full_like(wrong, true_score)], dim=1)
    similarity = similarity.detach().requires_grad_()
    targets = torch.ones(len(similarity), dtype=torch.int64, device=similarity.device)
    with torch.enable_grad():
        loss = identity_loss(similarity, alphas, targets, temperature)
        # The loss is a mean, the weight is of one sample.
        (gradient,) = torch.autograd.grad(loss * len(similarity), similarity)
    return gradient[:, 0].reshape(len(confidences), len(scores))


def _expect(name: str, value: Tensor, shape: tuple[int, ...], meaning: str) -> None:
    if value.shape != shape:
        raise TrainingError(
            f"{name} has shape {tuple(value.shape)}, expected {tuple(shape)}: {meaning}"
        )
