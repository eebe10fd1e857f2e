//! What operators note about a dead letter: one line after the other, none is ever overwritten.

use uuid::Uuid;

use super::{Result, Store, deadline};

impl Store {
    /// Adds a line to the notes of a dead letter; false when there is no such dead letter.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn note_dead_letter(&self, id: Uuid, line: &str) -> Result<bool> {
        deadline(async {
            let sql =
                "UPDATE dead_letters SET note = concat_ws(E'\\n', note, $2::text), updated_at = now() WHERE id = $1";
            Ok(self.client().await?.execute(sql, &[&id, &line]).await? == 1)
        })
        .await
    }
}
