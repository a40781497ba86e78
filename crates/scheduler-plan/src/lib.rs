//! Pure decisions of the scheduler: a snapshot in, a placement or the reasons why not out.
