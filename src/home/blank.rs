//! Whether a store holds anything that somebody would miss, and whether a server that leaves has given it away.

use std::ops::ControlFlow;

use crate::store::{Order, Store, StoreError, Table};

use super::keys;
use crate::model::members::Members;

/// Whether no device, client or session has a record there, and nothing waits for anybody. Blocks while it reads.
pub fn is_blank(store: &dyn Store) -> Result<bool, StoreError> {
    let mut blank = true;
    for table in [Table::Records, Table::Inbox, Table::Held] {
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

/// Whether a server has nothing left to give to `members`, of which it is none any more. Blocks while it reads.
pub fn is_given_away(store: &dyn Store, members: &Members) -> Result<bool, StoreError> {
    let mut owes = false;
    for server in members.current() {
        let (from, to) = keys::all_owed(server);
        store.scan(Table::Records, &from, &to, Order::Ascending, &mut |_, _| {
            owes = true;
            ControlFlow::Break(())
        })?;
    }
    Ok(!owes && is_blank(store)?)
}
