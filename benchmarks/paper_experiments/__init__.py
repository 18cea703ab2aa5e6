"""The paper's figures and tables: which runs they need, what is measured and what that says."""
