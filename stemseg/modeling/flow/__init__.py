"""The conditional appearance flow: an exact density model of the appearance embedding A (method.md §5).

From top to bottom: ``appearance_flow.py`` is the head of the network, the likelihood of A; ``dequantization.py`` turns
A into the flow's input; ``condition.py`` turns masks into the condition; ``glow.py`` is the flow itself, made of levels
and steps; ``layers.py`` holds the steps' layers. method.md lists the papers' symbols and the names that they have here.

Every invertible layer has the same interface: ``forward(x, ...) -> (y, logdet)`` and ``inverse(y, ...) -> x``. The
logarithm of |det dy/dx| is a sum over places, and logdet [N, h, w] holds each place's term, so that a likelihood can be
taken over a frame or over an instance's places alone. N in these layers is the number of frames that enter the flow.
"""
