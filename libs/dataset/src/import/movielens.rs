//! MovieLens folders: `movies.csv`, `ratings.csv` and, where it is there, `tags.csv`.
//!
//! A rating of 4 stars or more is a like and any other a click: both say that the film was seen.
//! It occurred at its second, later rows of the user in that second a millisecond later each.

use super::builder::{Builder, Reject};
use super::report::Reason;
use super::rows::{Fields, Header, Lines};
use super::table::unix_seconds;
use super::{Format, ImportError};
use crate::DatasetEvent;
use attune_domain::{Context, EventKind, Item, ItemId, ItemIx, MAX_CATEGORIES, UnixMillis};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

/// Stars from which a rating is a like.
const LIKED: f32 = 4.0;
/// Tags kept per film, those given most often first.
const TAGS: usize = 5;
const NO_GENRES: &str = "(no genres listed)";

const MOVIE_COLUMNS: [&str; 3] = ["movieid", "title", "genres"];
const RATING_COLUMNS: [&str; 4] = ["userid", "movieid", "rating", "timestamp"];
const TAG_COLUMNS: [&str; 4] = ["userid", "movieid", "tag", "timestamp"];

/// Whether this is the ratings file of a MovieLens folder.
pub(super) fn recognises(path: &Path) -> bool {
    path.with_file_name("movies.csv").is_file()
        && Lines::open(path).is_ok_and(|mut lines| Header::read(&mut lines, Format::MovieLens, &RATING_COLUMNS).is_ok())
}

pub(super) fn read(path: &Path, builder: &mut Builder<'_>) -> Result<(), ImportError> {
    let dir: PathBuf = if path.is_dir() { path.into() } else { path.parent().unwrap_or(Path::new("")).into() };
    read_movies(&dir.join("movies.csv"), builder)?;
    let tags = dir.join("tags.csv");
    if tags.is_file() {
        read_tags(&tags, builder)?;
    }
    read_ratings(&if path.is_dir() { dir.join("ratings.csv") } else { path.into() }, builder)
}

/// Where the known columns of a file are.
struct Columns<const N: usize> {
    names: [&'static str; N],
    at: [usize; N],
    count: usize,
    fields: Fields,
}

impl<const N: usize> Columns<N> {
    fn new(header: &Header, names: [&'static str; N]) -> Self {
        Self {
            at: names.map(|name| header.find(name).unwrap_or(usize::MAX)),
            names,
            count: header.0.len(),
            fields: Fields::default(),
        }
    }

    /// The columns' texts, none of them empty.
    fn split(&mut self, line: &str) -> Result<[&str; N], Reject> {
        if !self.fields.split(line) || self.fields.len() > self.count {
            return Err(Reject::row(Reason::Malformed));
        }
        let mut texts = [""; N];
        for ((text, &at), name) in texts.iter_mut().zip(&self.at).zip(self.names) {
            *text = if at < self.fields.len() { self.fields.get(at) } else { "" };
            if text.is_empty() {
                return Err(Reject::field(Reason::MissingField, name));
            }
        }
        Ok(texts)
    }
}

fn read_movies(path: &Path, builder: &mut Builder<'_>) -> Result<(), ImportError> {
    let (mut lines, file) = builder.open(path)?;
    let header = Header::read(&mut lines, builder.format(), &MOVIE_COLUMNS)?;
    let mut columns = Columns::new(&header, MOVIE_COLUMNS);
    builder.each_line(&mut lines, file, |builder, line, _| match builder.add_item(movie(&mut columns, line)?) {
        Some(_) => Ok(()),
        None => Err(Reject::field(Reason::Duplicate, "movieid")),
    })
}

fn movie(columns: &mut Columns<3>, line: &str) -> Result<Item, Reject> {
    let [id, title, genres] = columns.split(line)?;
    let id = ItemId::new(id).map_err(|_| Reject::field(Reason::BadId, "movieid"))?;
    let categories: Vec<String> =
        genres.split('|').map(str::trim).filter(|g| !g.is_empty() && *g != NO_GENRES).map(str::to_owned).collect();
    if categories.len() > MAX_CATEGORIES {
        return Err(Reject::field(Reason::TooManyValues, "genres"));
    }
    let year = year_of(title);
    Ok(Item {
        id,
        title: title.to_owned(),
        categories,
        attributes: year.map(|y| ("year".to_owned(), y.to_string())).into_iter().collect(),
        price: None,
        created_at: year.and_then(new_year),
        available: true,
    })
}

/// The year at the end of `Heat (1995)`; of `Dark Mirror (2011-2014)` the first.
fn year_of(title: &str) -> Option<u16> {
    let (_, inside) = title.trim_end().strip_suffix(')')?.rsplit_once('(')?;
    let rest = inside.trim_start_matches(|c: char| c.is_ascii_digit());
    let year = &inside[..inside.len() - rest.len()];
    let ranged = rest.is_empty() || rest.starts_with(['-', '–']);
    if year.len() == 4 && ranged { year.parse().ok().filter(|y| (1870..=2100).contains(y)) } else { None }
}

/// Start of a year, UTC.
fn new_year(year: u16) -> Option<UnixMillis> {
    let date = time::Date::from_ordinal_date(i32::from(year), 1).ok()?;
    Some(date.midnight().assume_utc().unix_timestamp() * 1000)
}

fn read_tags(path: &Path, builder: &mut Builder<'_>) -> Result<(), ImportError> {
    let (mut lines, file) = builder.open(path)?;
    let header = Header::read(&mut lines, builder.format(), &TAG_COLUMNS)?;
    let mut columns = Columns::new(&header, TAG_COLUMNS);
    let mut counts: HashMap<ItemIx, BTreeMap<String, u32>> = HashMap::new();
    builder.each_line(&mut lines, file, |builder, line, _| {
        let (item, tag) = tag(&mut columns, builder, line)?;
        *counts.entry(item).or_default().entry(tag).or_default() += 1;
        Ok(())
    })?;
    for (item, tags) in counts {
        let mut tags: Vec<_> = tags.into_iter().collect();
        tags.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        let joined = tags.into_iter().take(TAGS).map(|(tag, _)| tag).collect::<Vec<_>>().join(", ");
        if let Some(item) = builder.item_mut(item) {
            item.attributes.push(("tags".to_owned(), joined));
            item.attributes.sort();
        }
    }
    Ok(())
}

fn tag(columns: &mut Columns<4>, builder: &Builder<'_>, line: &str) -> Result<(ItemIx, String), Reject> {
    let [_, movie, tag, _] = columns.split(line)?;
    let id = ItemId::new(movie).map_err(|_| Reject::field(Reason::BadId, "movieid"))?;
    let item = builder.find_item(&id).ok_or(Reject::field(Reason::UnknownItem, "movieid"))?;
    // The rule for ids fits a tag too: it is shown and must not break a line.
    match ItemId::new(&tag.to_lowercase()) {
        Ok(tag) => Ok((item, tag.as_str().to_owned())),
        Err(_) => Err(Reject::field(Reason::BadValue, "tag")),
    }
}

fn read_ratings(path: &Path, builder: &mut Builder<'_>) -> Result<(), ImportError> {
    let (mut lines, file) = builder.open(path)?;
    let header = Header::read(&mut lines, builder.format(), &RATING_COLUMNS)?;
    let mut columns = Columns::new(&header, RATING_COLUMNS);
    builder.each_line(&mut lines, file, |builder, line, place| {
        let (user, mut event, stars) = rating(&mut columns, builder, line)?;
        event.user = builder.user(user);
        builder.add_event(event, u64::from(stars.to_bits()), place);
        Ok(())
    })
}

/// The raw user id, the event without its user, and the stars.
fn rating<'c>(
    columns: &'c mut Columns<4>,
    builder: &Builder<'_>,
    line: &str,
) -> Result<(&'c str, DatasetEvent, f32), Reject> {
    let [user, movie, stars, timestamp] = columns.split(line)?;
    ItemId::check(user).map_err(|_| Reject::field(Reason::BadId, "userid"))?;
    let id = ItemId::new(movie).map_err(|_| Reject::field(Reason::BadId, "movieid"))?;
    let stars: f32 = stars.parse().map_err(|_| Reject::field(Reason::BadNumber, "rating"))?;
    if !(0.0..=5.0).contains(&stars) {
        return Err(Reject::field(Reason::BadNumber, "rating"));
    }
    let occurred_at = unix_seconds(timestamp).ok_or(Reject::field(Reason::BadTimestamp, "timestamp"))?;
    let item = builder.find_item(&id).ok_or(Reject::field(Reason::UnknownItem, "movieid"))?;
    let kind = if stars >= LIKED { EventKind::Like } else { EventKind::Click };
    let event = DatasetEvent { user: 0, item, kind, occurred_at, value: 1.0, slate: None, context: Context::DEFAULT };
    Ok((user, event, stars))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn years_are_read_from_titles() {
        for (title, year) in [
            ("Toy Story (1995)", Some(1995)),
            ("Babylon 5", None),
            ("City of Lost Children, The (Cité des enfants perdus, La) (1995) ", Some(1995)),
            ("Death Note: Desu nôto (2006–2007)", Some(2006)),
            ("Numbers (12345)", None),
            ("Odd (1995x)", None),
            ("()", None),
        ] {
            assert_eq!(year_of(title), year, "{title}");
        }
        assert_eq!(new_year(1995), Some(788_918_400_000));
        assert_eq!(new_year(1970), Some(0));
    }
}
