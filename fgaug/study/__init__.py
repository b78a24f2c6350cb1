"""Study: a search, from its grid file to its results.

The planner validates a grid and lists its cells and the fakes they need; `fill` generates missing
fakes; `search` trains the cells with Ray Tune (`tune`); `confirmation` retrains the best arms on
fresh seeds; `replay` retrains one cell. This room imports gan_worker inside functions only.
"""
