//! Whether a store holds anything that somebody would miss.

use std::ops::ControlFlow;

use crate::store::{Order, Store, StoreError, Table};

use super::keys;

/// Whether no device, client or session has a record there, and nothing waits for anybody. Blocks while it reads.
pub fn is_blank(store: &dyn Store) -> Result<bool, StoreError> {
    let mut blank = true;
    for table in [Table::Records, Table::Inbox] {
        store.scan(table, &[], &[0xff; 16], Order::Ascending, &mut |key, _| {
            if table == Table::Records && keys::is_of_the_server(key) {
                return ControlFlow::Continue(());
            }
            blank = false;
            ControlFlow::Break(())
        })?;
    }
    Ok(blank)
}
