//! Players that keep a ledger of what they were promised.
