"""Study: a search from its grid file to its rows.

The planner checks a grid and lists its cells and the fakes they need; `fill` has missing fakes
generated; `search` trains the cells with Ray Tune (`tune`); `confirmation` retrains the best arms
with fresh seeds; `replay` repeats one cell. This room imports gan_worker, inside functions only.
"""
