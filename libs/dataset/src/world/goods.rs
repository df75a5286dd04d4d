//! What the shop sells: items with words to show and latent qualities that only the world knows.

use super::{Latent, WorldConfig, generator, unit};
use attune_domain::{Item, ItemId};
use rand::RngExt as _;
use rand_distr::{Distribution as _, Exp1, LogNormal, StandardNormal};

pub(super) const CATEGORIES: usize = 16;
const DAY: i64 = 86_400_000;

struct Shelf {
    name: &'static str,
    /// Median price in minor currency units.
    price: f32,
    makes: [&'static str; 6],
    things: [&'static str; 8],
}

const FINISHES: [&str; 8] = ["graphite", "sand", "forest green", "navy", "ivory", "rust", "charcoal", "sky blue"];
const BRANDS: [&str; 16] = [
    "Alder & Vane",
    "Brightwell",
    "Corrigan",
    "Dovetail",
    "Eastmoor",
    "Fjordlund",
    "Greywater",
    "Halden",
    "Ivarsson",
    "Juniper Row",
    "Kestrel",
    "Lowfield",
    "Marrow & Pine",
    "Northing",
    "Osmund",
    "Penhallow",
];

#[rustfmt::skip]
const SHELVES: [Shelf; CATEGORIES] = [
    Shelf { name: "kitchen", price: 3_900.0, makes: ["Enamelled", "Cast-iron", "Copper", "Stoneware", "Non-stick", "Bamboo"], things: ["casserole", "saucepan", "frying pan", "mixing bowl", "baking tray", "serving dish", "colander", "kettle"] },
    Shelf { name: "running", price: 8_900.0, makes: ["Lightweight", "Cushioned", "Reflective", "Breathable", "All-weather", "Long-distance"], things: ["running shoes", "running jacket", "shorts", "half-zip top", "running vest", "cap", "socks", "tights"] },
    Shelf { name: "audio", price: 12_900.0, makes: ["Wireless", "Noise-cancelling", "Portable", "Studio", "Compact", "Hi-fi"], things: ["headphones", "earbuds", "speaker", "soundbar", "turntable", "amplifier", "microphone", "radio"] },
    Shelf { name: "garden", price: 2_700.0, makes: ["Galvanised", "Terracotta", "Weatherproof", "Cedar", "Hand-forged", "Folding"], things: ["planter", "watering can", "pruning shears", "garden bench", "trellis", "bird feeder", "trowel set", "lantern"] },
    Shelf { name: "camping", price: 7_400.0, makes: ["Ultralight", "Insulated", "Four-season", "Quick-pitch", "Packable", "Waterproof"], things: ["tent", "sleeping bag", "camping stove", "sleeping mat", "head torch", "cool box", "camping chair", "dry bag"] },
    Shelf { name: "gaming", price: 6_500.0, makes: ["Mechanical", "Low-latency", "Backlit", "Ergonomic", "Tournament", "Wireless"], things: ["keyboard", "mouse", "gamepad", "headset", "mouse mat", "capture card", "racing wheel", "gaming chair"] },
    Shelf { name: "coffee", price: 4_800.0, makes: ["Hand-cranked", "Double-walled", "Barista", "Pour-over", "Italian", "Precision"], things: ["coffee grinder", "espresso machine", "moka pot", "milk jug", "coffee scale", "dripper", "tamper", "coffee cup set"] },
    Shelf { name: "cycling", price: 5_600.0, makes: ["Aerodynamic", "Carbon", "Commuter", "Gravel", "Tubeless", "Merino"], things: ["helmet", "saddle", "pannier", "handlebar bag", "bike light", "cycling jersey", "lock", "floor pump"] },
    Shelf { name: "toys", price: 2_200.0, makes: ["Wooden", "Magnetic", "Hand-painted", "Solar-powered", "Build-your-own", "Wind-up"], things: ["train set", "marble run", "puzzle", "kite", "doll's house", "robot", "building blocks", "spinning top"] },
    Shelf { name: "lighting", price: 6_100.0, makes: ["Dimmable", "Brass", "Linen", "Adjustable", "Smoked-glass", "Rechargeable"], things: ["desk lamp", "floor lamp", "pendant light", "wall light", "table lamp", "reading light", "string lights", "night light"] },
    Shelf { name: "travel", price: 9_800.0, makes: ["Carry-on", "Expandable", "Recycled", "Anti-theft", "Leather", "Foldable"], things: ["suitcase", "backpack", "weekend bag", "packing cubes", "wash bag", "passport holder", "neck pillow", "duffel"] },
    Shelf { name: "photography", price: 15_500.0, makes: ["Full-frame", "Vintage", "Travel", "Weather-sealed", "Instant", "Pocket"], things: ["camera", "tripod", "camera bag", "zoom lens", "flash", "camera strap", "filter set", "photo printer"] },
    Shelf { name: "knitwear", price: 6_900.0, makes: ["Merino", "Cable-knit", "Lambswool", "Cashmere", "Chunky", "Fair Isle"], things: ["jumper", "cardigan", "scarf", "beanie", "gloves", "roll-neck", "throw", "slipper socks"] },
    Shelf { name: "pets", price: 2_900.0, makes: ["Orthopaedic", "Chew-proof", "Washable", "Interactive", "Raised", "Reflective"], things: ["dog bed", "cat tree", "food bowl", "dog lead", "scratching post", "pet carrier", "harness", "toy bundle"] },
    Shelf { name: "bath", price: 2_400.0, makes: ["Organic cotton", "Waffle", "Quick-dry", "Scented", "Marble", "Oak"], things: ["bath towel", "bath mat", "soap dish", "bathrobe", "candle", "laundry basket", "bath rack", "mirror"] },
    Shelf { name: "desk", price: 5_200.0, makes: ["Height-adjustable", "Walnut", "Felt", "Minimal", "Modular", "Steel"], things: ["monitor stand", "desk organiser", "notebook", "fountain pen", "desk mat", "bookend", "office chair", "filing tray"] },
];

/// Items and, in the same order, their hidden qualities.
pub(super) struct Goods {
    pub(super) items: Vec<Item>,
    pub(super) latent: Vec<Latent>,
    /// The first category: an index into [`Goods::centroids`].
    pub(super) category: Vec<u8>,
    /// What draws everybody alike; few have much of it.
    pub(super) appeal: Vec<f32>,
    pub(super) centroids: Vec<Latent>,
}

impl Goods {
    pub(super) fn make(config: &WorldConfig) -> Self {
        let rng = &mut generator(config.seed, "goods", 0);
        let categories = usize::from(config.categories).min(CATEGORIES);
        let mut normal = || -> f32 { StandardNormal.sample(rng) };
        let centroids: Vec<Latent> = (0..categories).map(|_| unit(std::array::from_fn(|_| normal()))).collect();
        let mut goods =
            Self { items: Vec::new(), latent: Vec::new(), category: Vec::new(), appeal: Vec::new(), centroids };
        let mut made = [0usize; CATEGORIES];
        for n in 0..config.items {
            let rng = &mut generator(config.seed, "item", u64::from(n));
            // Large and small categories: the power crowds the first ones.
            let share: f32 = rng.random();
            let category = ((share.powf(1.3) * categories as f32) as usize).min(categories - 1);
            let other = rng.random_range(0..categories);
            let (own, near) = (goods.centroids[category], goods.centroids[other]);
            let second = if rng.random_bool(0.35) && other != category { Some(other) } else { None };
            let pull = if second.is_some() { 0.35 } else { 0.0 };
            let latent = std::array::from_fn(|d| {
                let noise: f32 = StandardNormal.sample(rng);
                own[d] + pull * near[d] + 0.14 * noise
            });
            let appeal: f32 = Exp1.sample(rng);
            goods.latent.push(unit(latent));
            goods.category.push(category as u8);
            goods.appeal.push(0.55 * appeal.min(5.0));
            goods.items.push(item(config, n, category, second, made[category], rng));
            made[category] += 1;
        }
        goods
    }
}

/// `nth` numbers the items of a category, so that no two get the same title.
fn item(
    config: &WorldConfig,
    n: u32,
    category: usize,
    second: Option<usize>,
    nth: usize,
    rng: &mut impl rand::Rng,
) -> Item {
    let shelf = &SHELVES[category];
    let thing = shelf.things[nth % 8];
    let make = shelf.makes[nth / 8 % 6];
    let finish = FINISHES[(nth / 48 + nth) % 8];
    let mut title = format!("{make} {thing}, {finish}");
    if nth >= 384 {
        title.push_str(&format!(", No. {}", nth / 384 + 1));
    }
    let price =
        LogNormal::new(shelf.price.ln(), 0.45).expect("the deviation is finite").sample(rng).clamp(300.0, 500_000.0);
    // One item in twenty is new; the others are up to two and a half years old.
    let age: f64 = if rng.random_bool(0.05) {
        rng.random_range(0.0..14.0)
    } else {
        let age: f64 = Exp1.sample(rng);
        (14.0 + 220.0 * age).min(900.0)
    };
    let brand = BRANDS[rng.random_range(0..BRANDS.len())];
    Item {
        id: ItemId::new(&format!("p{n:05}")).expect("a letter and digits are a valid id"),
        title,
        categories: [Some(category), second].into_iter().flatten().map(|c| SHELVES[c].name.to_owned()).collect(),
        attributes: vec![("brand".to_owned(), brand.to_owned()), ("colour".to_owned(), finish.to_owned())],
        price: Some((price / 100.0).round() as i64 * 100 - 10),
        created_at: Some(config.catalogue_at - (age * DAY as f64) as i64),
        available: true,
    }
}
