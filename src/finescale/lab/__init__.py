"""Floor 2: text, models, methods, training, evaluation. Imported only when something is trained or evaluated."""
