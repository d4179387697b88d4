//! `Content-Encoding`: a compressed body becomes a plain one, within bounds.
