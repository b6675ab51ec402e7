"""The conditional appearance flow: an exact density model of the appearance embedding A (method.md §5).

The papers' symbols, and the names they have here:

=================  ==================================================================================================
mu, Sigma          center and covariance of an instance's Gaussian in the embedding space; *coarse* from coordinates
                   and offsets alone, *fine* once the appearance is mixed in: ``modeling.embedding.gaussian``
                   and ``modeling.losses``.
O-hat              the spatio-temporal embedding: offsets plus coordinates, what ``EmbeddingHead`` returns.
A                  the appearance embedding, ``appearance`` [N, A, T, h, w] at quarter scale; ``x`` [N*T, A, h', w']
                   where it enters the flow, one item per frame, pooled to stride 16 (``appearance_flow.py``).
phi                the mixing function, H = phi(O-hat, A): ``mix_appearance`` (``modeling.embedding.appearance``).
c                  features of the clip's ground-truth masks, ``condition``, made by ``ConditionEncoder``
                   (``condition.py``); known in training only. ``CONDITION: identity``, not in the papers, adds what an
                   instance looks like in the clip's other frames (``paint_means``).
f, z               the flow ``Glow`` (``flow.py``) and its ``latents``: z = f(A; c), exactly invertible for any given c.
g1                 scale and shift, from c alone, of the affine injection: ``AffineInjection`` (``injection.py``).
g2                 the coupling's network, which sees half of the channels and c: ``AffineCoupling`` and
                   ``AdditiveCoupling`` (``coupling.py``).
K                  steps per level, ``num_steps`` (``MODEL.OFFSET.N_FLOW``): ``FlowStep`` (``level.py``).
L                  levels, ``num_levels`` (``MODEL.OFFSET.N_BLOCK``): ``FlowLevel`` (``level.py``).
=================  ==================================================================================================

Every invertible layer has the same interface: ``forward(x, ...) -> (y, logdet)`` and ``inverse(y, ...) -> x``. The
logarithm of |det dy/dx| is a sum over places, and logdet [N, h, w] holds each place's term, so that a likelihood can be
taken over a frame or over an instance's places alone. N in these layers is the number of frames that enter the flow.
"""
