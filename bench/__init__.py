"""What is measured, and how. `./dev bench NAME` runs it; figures in documents come from here."""
