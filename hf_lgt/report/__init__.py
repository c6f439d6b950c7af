"""What people look at: tables, figures, model cards."""
