package main

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// Reports are written by people one may not trust. Nothing of them reaches a
// terminal before the functions of this file have seen it.

// unsafeRune says whether a rune could steer a terminal, hide text or turn its
// order round: controls, bidirectional and other invisible formatting, line
// separators, private use. Variation selectors stay, since Japanese names need
// them.
func unsafeRune(r rune) bool {
	return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp, unicode.Co, unicode.Cs)
}

// plain makes text safe for one line. Line breaks and tabs become spaces, what
// is unsafe becomes visible as \u{202E}.
func plain(s string) string {
	s = strings.ReplaceAll(s, "\r\n", "\n")
	s = strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' || r == '\r' {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, string(utf8.RuneError)))
	return escapeUnsafe(s, visibleEscape)
}

// plainText makes text of several lines safe and indents every line, so that
// no line of it can pass for one of ours.
func plainText(s, indent string) string {
	s = strings.ReplaceAll(s, "\r\n", "\n")
	s = strings.ReplaceAll(s, "\t", "    ")
	lines := strings.Split(strings.TrimRight(s, "\n"), "\n")
	for i, line := range lines {
		lines[i] = strings.TrimRight(indent+plain(line), " ")
	}
	return strings.Join(lines, "\n")
}

func visibleEscape(r rune) string { return fmt.Sprintf(`\u{%04X}`, r) }

func jsonEscape(r rune) string {
	if r > 0xFFFF {
		high, low := utf16.EncodeRune(r)
		return fmt.Sprintf(`\u%04x\u%04x`, high, low)
	}
	return fmt.Sprintf(`\u%04x`, r)
}

// escapeUnsafe writes every unsafe rune of s with escape.
func escapeUnsafe(s string, escape func(rune) string) string {
	if strings.IndexFunc(s, unsafeRune) < 0 {
		return s
	}
	var b strings.Builder
	b.Grow(len(s) + 16)
	for _, r := range s {
		if unsafeRune(r) {
			b.WriteString(escape(r))
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

// defang makes an indicator harmless to click on.
func defang(value string) string {
	value = plain(value)
	// Only scheme and host are changed; the dots of a path say nothing.
	scheme, rest, found := strings.Cut(value, "://")
	if found {
		scheme = strings.Replace(strings.ToLower(scheme), "http", "hxxp", 1) + "[://]"
	} else {
		scheme, rest = "", value
	}
	host, tail := rest, ""
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		host, tail = rest[:i], rest[i:]
	}
	host = strings.NewReplacer(".", "[.]", "@", "[@]").Replace(host)
	return scheme + host + tail
}

// fileName turns the name of a part into one that is safe to create: no path,
// no hidden file, nothing a file system or a reader could take for something
// else. It may be empty.
func fileName(name string) string {
	if i := strings.LastIndexAny(name, `/\`); i >= 0 {
		name = name[i+1:]
	}
	name = strings.Map(func(r rune) rune {
		switch {
		case unsafeRune(r) || r == utf8.RuneError:
			return -1
		case strings.ContainsRune(`<>:"|?*`, r):
			return '_'
		}
		return r
	}, name)
	name = strings.Trim(name, " ")
	if strings.HasPrefix(name, ".") {
		name = "_" + strings.TrimLeft(name, ".")
	}
	name = strings.TrimRight(name, " .")
	stem, ext := name, ""
	if i := strings.LastIndexByte(name, '.'); i > 0 {
		stem, ext = name[:i], name[i:]
	}
	if device, _, _ := strings.Cut(stem, "."); reservedNames[strings.ToUpper(strings.TrimRight(device, " "))] {
		stem = "_" + stem
	}
	if len(ext) > 20 {
		stem, ext = stem+ext, ""
	}
	return cut(stem, 200-len(ext)) + ext
}

// reservedNames are devices on Windows.
var reservedNames = func() map[string]bool {
	names := map[string]bool{"CON": true, "PRN": true, "AUX": true, "NUL": true}
	for i := '1'; i <= '9'; i++ {
		names["COM"+string(i)], names["LPT"+string(i)] = true, true
	}
	return names
}()

// cut shortens s to at most max bytes without breaking a character.
func cut(s string, max int) string {
	if len(s) <= max {
		return s
	}
	for max > 0 && !utf8.RuneStart(s[max]) {
		max--
	}
	return s[:max]
}
