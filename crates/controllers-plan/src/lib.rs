//! Pure decisions of the controllers: what is observed in, a plan out.
