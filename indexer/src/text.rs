pub(crate) mod analyse;
