"""requests → weights: MEMIT (Meng et al., ICLR 2023) as one rebuild from the base model."""
