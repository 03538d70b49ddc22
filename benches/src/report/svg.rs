//! Drawing SVG by hand, so that style sheets reach every part: colours are CSS variables, which
//! differ in light and dark.

use std::fmt::Write;

/// A drawing of a fixed size in its own units, scaled by the page.
pub struct Svg {
    width: f64,
    height: f64,
    body: String,
}

/// To which side of its point a text extends.
#[derive(Clone, Copy)]
pub enum Anchor {
    Start,
    Middle,
    End,
}

/// A rectangle: left, top, width, height.
#[derive(Clone, Copy, Debug)]
pub struct Rect(pub f64, pub f64, pub f64, pub f64);

impl Rect {
    pub fn overlaps(self, other: Rect) -> bool {
        let Rect(x, y, width, height) = self;
        let Rect(other_x, other_y, other_width, other_height) = other;
        x < other_x + other_width
            && other_x < x + width
            && y < other_y + other_height
            && other_y < y + height
    }

    pub fn is_within(self, outer: Rect) -> bool {
        let Rect(x, y, width, height) = self;
        let Rect(left, top, outer_width, outer_height) = outer;
        x >= left && y >= top && x + width <= left + outer_width && y + height <= top + outer_height
    }
}

/// Roughly the width of a text of this size, for placing what has no place of its own.
pub fn text_width(text: &str, size: f64) -> f64 {
    text.chars().count() as f64 * size * 0.6
}

/// Text in HTML and SVG.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            c => escaped.push(c),
        }
    }
    escaped
}

impl Svg {
    pub fn new(width: f64, height: f64) -> Self {
        Svg { width, height, body: String::new() }
    }

    pub fn line(&mut self, class: &str, from: (f64, f64), to: (f64, f64)) {
        let ((x1, y1), (x2, y2)) = (from, to);
        self.add(format_args!(
            r#"<line class="{class}" x1="{x1:.1}" y1="{y1:.1}" x2="{x2:.1}" y2="{y2:.1}"/>"#
        ));
    }

    pub fn path(&mut self, class: &str, points: &[(f64, f64)]) {
        let points: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        self.add(format_args!(r#"<polyline class="{class}" points="{}"/>"#, points.join(" ")));
    }

    /// A rectangle that says `title` under the pointer.
    pub fn rect(&mut self, class: &str, rect: Rect, title: &str) {
        let (Rect(x, y, width, height), title) = (rect, escape(title));
        self.add(format_args!(
            r#"<rect class="{class}" x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{height:.1}" rx="1.5"><title>{title}</title></rect>"#
        ));
    }

    /// A dot that says `title` under the pointer.
    pub fn dot(&mut self, class: &str, (x, y): (f64, f64), radius: f64, title: &str) {
        let title = escape(title);
        self.add(format_args!(
            r#"<circle class="{class}" cx="{x:.1}" cy="{y:.1}" r="{radius}"><title>{title}</title></circle>"#
        ));
    }

    pub fn text(&mut self, class: &str, anchor: Anchor, at: (f64, f64), text: &str) {
        self.turned_text(class, anchor, at, 0.0, text);
    }

    /// Turned by so many degrees around its point, clockwise.
    pub fn turned_text(
        &mut self,
        class: &str,
        anchor: Anchor,
        (x, y): (f64, f64),
        degrees: f64,
        text: &str,
    ) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let turn = if degrees == 0.0 {
            String::new()
        } else {
            format!(r#" transform="rotate({degrees:.1} {x:.1} {y:.1})""#)
        };
        let text = escape(text);
        self.add(format_args!(
            r#"<text class="{class}" text-anchor="{anchor}" x="{x:.1}" y="{y:.1}"{turn}>{text}</text>"#
        ));
    }

    fn add(&mut self, element: std::fmt::Arguments<'_>) {
        // Writing to a string does not fail.
        let _ = writeln!(self.body, "{element}");
    }

    /// The drawing as an element of a page; `name` is what it is called for who does not see it.
    pub fn element(&self, name: &str) -> String {
        let Svg { width, height, body } = self;
        let name = escape(name);
        format!(
            "<svg viewBox=\"0 0 {width:.0} {height:.0}\" role=\"img\" aria-label=\"{name}\">\n{body}</svg>\n"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_break_out_of_the_page() {
        let mut svg = Svg::new(10.0, 10.0);
        svg.text("label", Anchor::Start, (0.0, 0.0), "<script>\"&");
        let element = svg.element("a \"name\"");
        assert!(element.contains("&lt;script&gt;&quot;&amp;</text>"));
        assert!(element.contains("aria-label=\"a &quot;name&quot;\""));
    }

    #[test]
    fn rectangles_that_touch_do_not_overlap() {
        let a = Rect(0.0, 0.0, 10.0, 10.0);
        assert!(!a.overlaps(Rect(10.0, 0.0, 5.0, 5.0)));
        assert!(a.overlaps(Rect(9.0, 9.0, 5.0, 5.0)));
        assert!(Rect(1.0, 1.0, 9.0, 9.0).is_within(a) && !Rect(1.0, 1.0, 9.5, 9.0).is_within(a));
    }
}
