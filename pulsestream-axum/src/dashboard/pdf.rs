//! A table of text as a PDF (ISO 32000-1): pages of A4 in Courier, which every reader has.

use std::fmt::Write;

const LINES_PER_PAGE: usize = 60;
/// Characters of a line: 8 points of Courier are 4.8 points wide.
const LINE_CHARS: usize = 105;

/// Writes lines of text, a page for every sixty of them.
pub(super) fn write(title: &str, lines: &[String]) -> Vec<u8> {
    let mut pages: Vec<_> = lines.chunks(LINES_PER_PAGE).collect();
    if pages.is_empty() {
        pages.push(&[]);
    }
    // Objects: 1 catalogue, 2 page tree, 3 font, 4 information, then a page and its content for each page.
    let mut objects = vec!["<< /Type /Catalog /Pages 2 0 R >>".to_owned()];
    let kids: Vec<_> = (0..pages.len()).map(|index| format!("{} 0 R", 5 + index * 2)).collect();
    objects.push(format!("<< /Type /Pages /Kids [{}] /Count {} >>", kids.join(" "), pages.len()));
    objects
        .push("<< /Type /Font /Subtype /Type1 /BaseFont /Courier /Encoding /WinAnsiEncoding >>".to_owned());
    objects.push(format!("<< /Title ({}) /Producer (PulseStream) >>", escaped(title)));
    for (index, page) in pages.iter().enumerate() {
        objects.push(format!(
            "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Resources << /Font << /F1 3 0 R >> >> /Contents {} 0 R >>",
            6 + index * 2
        ));
        let mut content = String::from("BT /F1 8 Tf 12 TL 45 800 Td\n");
        for line in *page {
            // Writing to a string cannot fail.
            let _ = writeln!(content, "({}) Tj T*", escaped(line));
        }
        content.push_str("ET");
        objects.push(format!("<< /Length {} >>\nstream\n{content}\nendstream", content.len()));
    }
    assemble(&objects)
}

fn assemble(objects: &[String]) -> Vec<u8> {
    let mut file = String::from("%PDF-1.4\n");
    let mut offsets = Vec::new();
    for (index, object) in objects.iter().enumerate() {
        offsets.push(file.len());
        let _ = write!(file, "{} 0 obj\n{object}\nendobj\n", index + 1);
    }
    let start = file.len();
    let size = objects.len() + 1;
    let _ = write!(file, "xref\n0 {size}\n0000000000 65535 f \n");
    for offset in offsets {
        let _ = writeln!(file, "{offset:010} 00000 n ");
    }
    let _ = write!(file, "trailer\n<< /Size {size} /Root 1 0 R /Info 4 0 R >>\nstartxref\n{start}\n%%EOF\n");
    file.into_bytes()
}

/// Writes text as the inside of a string object. What WinAnsi has beyond ASCII is written in octal, the rest as `?`.
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for character in text.chars().take(LINE_CHARS) {
        match character {
            '(' | ')' | '\\' => {
                escaped.push('\\');
                escaped.push(character);
            }
            ' '..='~' => escaped.push(character),
            '\u{a0}'..='\u{ff}' => {
                let _ = write!(escaped, "\\{:03o}", u32::from(character));
            }
            _ => escaped.push('?'),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_lead_to_their_objects() {
        let lines: Vec<_> = (0..130).map(|line| format!("line {line} (with) \\ \u{e9} \u{4e2d}")).collect();
        let file = String::from_utf8(write("A title", &lines)).unwrap();
        assert!(file.starts_with("%PDF-1.4\n") && file.ends_with("%%EOF\n"));
        assert!(file.contains("/Count 3"), "130 lines are three pages");
        assert!(file.contains(r"(line 7 \(with\) \\ \351 ?) Tj"));
        let start: usize =
            file.rsplit("startxref\n").next().unwrap().lines().next().unwrap().parse().unwrap();
        let table: Vec<_> = file[start..].lines().skip(3).take_while(|line| line.ends_with(" n ")).collect();
        assert_eq!(table.len(), 4 + 2 * 3);
        for (index, entry) in table.iter().enumerate() {
            let offset: usize = entry[..10].parse().unwrap();
            assert!(file[offset..].starts_with(&format!("{} 0 obj\n", index + 1)));
        }
        for stream in file.split("<< /Length ").skip(1) {
            let length: usize = stream.split(' ').next().unwrap().parse().unwrap();
            let content = stream.split("stream\n").nth(1).unwrap();
            assert_eq!(&content[length..length + 4], "\nend");
        }
    }
}
