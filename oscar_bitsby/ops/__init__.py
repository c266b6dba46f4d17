"""Operations: system checks, diagnostics and pruning."""
