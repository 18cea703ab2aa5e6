"""Our planners in other libraries, and theirs here. Import the module of the library you have:

| module | ours as theirs | theirs as `plan` |
|---|---|---|
| `planners.adapters.stable_worldmodel` | `PlannerSolver`, a Solver | `SolverPlanner` |
| `planners.adapters.torchrl` | `PlannerModule`, an MPC module | `TorchRLPlanner` |
| `planners.adapters.pytorch_mppi` | | `PytorchMPPIPlanner` |
"""
