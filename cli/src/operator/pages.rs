//! Lists that come in pages, put together again.

use tidegate_proto::v1;

use crate::exit::Failure;

/// A page of a list.
pub(crate) trait Page {
    /// How many rows it has.
    fn rows(&self) -> usize;
    /// What to ask for next; empty at the end. Taken out, so that a whole list has none.
    fn take_token(&mut self) -> String;
    /// Puts the rows of a later page behind its own.
    fn append(&mut self, later: Self);
}

macro_rules! pages {
    ($($list:ident: $rows:ident),* $(,)?) => {
        $(
            impl Page for v1::$list {
                fn rows(&self) -> usize {
                    self.$rows.len()
                }
                fn take_token(&mut self) -> String {
                    std::mem::take(&mut self.next_page_token)
                }
                fn append(&mut self, later: Self) {
                    self.$rows.extend(later.$rows);
                }
            }
        )*
    };
}

pages! {
    ListRealmsResponse: realms,
    ListBuildsResponse: builds,
    ListEnvironmentsResponse: environments,
    ListSessionsResponse: sessions,
    ListSnapshotsResponse: snapshots,
    ListAuditResponse: records,
    ExplainDrainResponse: holders,
}

/// The most rows that a page may have.
const PAGE: usize = 1_000;

/// Asks for page after page, until the end or `limit` rows.
pub(crate) async fn up_to<L: Page>(
    limit: usize,
    ask: impl AsyncFn(Option<v1::PageRequest>) -> Result<L, Failure>,
) -> Result<L, Failure> {
    let size = |have: usize| u32::try_from((limit - have).clamp(1, PAGE)).unwrap_or(1);
    let mut list = ask(Some(v1::PageRequest { page_size: size(0), page_token: String::new() })).await?;
    let mut page_token = list.take_token();
    while !page_token.is_empty() && list.rows() < limit {
        let mut more = ask(Some(v1::PageRequest { page_size: size(list.rows()), page_token })).await?;
        page_token = more.take_token();
        list.append(more);
    }
    Ok(list)
}

/// All pages.
pub(crate) async fn all<L: Page>(
    ask: impl AsyncFn(Option<v1::PageRequest>) -> Result<L, Failure>,
) -> Result<L, Failure> {
    up_to(usize::MAX, ask).await
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A manager with the realms 0 to 2499.
    async fn realms(page: Option<v1::PageRequest>) -> Result<v1::ListRealmsResponse, Failure> {
        let page = page.expect("a page is always asked for");
        assert!((1..=1_000).contains(&page.page_size));
        let from: usize = page.page_token.parse().unwrap_or(0);
        let to = (from + page.page_size as usize).min(2_500);
        let realms = (from..to).map(|n| v1::Realm { id: n.to_string(), ..Default::default() }).collect();
        let next_page_token = if to < 2_500 { to.to_string() } else { String::new() };
        Ok(v1::ListRealmsResponse { realms, next_page_token })
    }

    #[tokio::test]
    async fn every_row_comes_once_and_no_more_than_were_asked_for() {
        let list = all(realms).await.unwrap();
        assert!(list.realms.iter().enumerate().all(|(n, realm)| realm.id == n.to_string()));
        assert_eq!((list.realms.len(), list.next_page_token.as_str()), (2_500, ""));
        assert_eq!(up_to(1_200, realms).await.unwrap().realms.len(), 1_200);
        assert_eq!(up_to(50, realms).await.unwrap().realms.len(), 50);
    }
}
