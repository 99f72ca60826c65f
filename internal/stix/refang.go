package stix

import (
	"bytes"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// refanger turns defanged text back into what it stood for, one character at a
// time. What it does depends on the place: in the path and query of a URL only
// forms that cannot occur there are replaced, because that part is kept byte for
// byte.
type refanger struct {
	out    []byte
	place  place
	folded bool // a full-width or other compatibility form was replaced

	defanged bool // a form in brackets was replaced
}

type place uint8

const (
	plain     place = iota
	authority       // after "://"
	rest            // after the "/", "?" or "#" that ends an authority
)

func (f *refanger) reset() { *f = refanger{out: f.out[:0]} }

// brackets are the defanged forms, by their last character. The search runs over
// what has been written, so that nested forms such as "[[.]]" end at a fixed
// point and reading the result again changes nothing.
var brackets = map[byte][]struct {
	form, meaning string
	inRest        bool
}{
	']': {
		{"[.]", ".", true}, {"[:]", ":", true}, {"[://]", "://", true}, {"[//]", "//", true}, {"[/]", "/", true},
		{"[@]", "@", true}, {"[dot]", ".", false}, {"[at]", "@", false},
	},
	'}': {{"{.}", ".", true}, {"{@}", "@", true}, {"{dot}", ".", false}, {"{at}", "@", false}},
	')': {{"(.)", ".", false}, {"(@)", "@", false}, {"(dot)", ".", false}, {"(at)", "@", false}},
}

// put appends an ASCII character and replaces the defanged form it completes.
func (f *refanger) put(c byte) {
	f.out = append(f.out, c)
	switch c {
	case ']', '}', ')':
		for _, b := range brackets[c] {
			if (b.inRest || f.place != rest) && hasSuffixFold(f.out, b.form) {
				f.defanged = true
				f.out = f.out[:len(f.out)-len(b.form)]
				for i := range len(b.meaning) {
					f.put(b.meaning[i])
				}
				return
			}
		}
	case '/':
		if f.place == plain && bytes.HasSuffix(f.out, []byte("://")) {
			f.place = authority
		} else if f.place == authority {
			f.place = rest
		}
	case '?', '#':
		if f.place == authority {
			f.place = rest
		}
	}
}

// keep appends a character as it stands.
func (f *refanger) keep(s string) { f.out = append(f.out, s...) }

func hasSuffixFold(b []byte, lower string) bool {
	if len(b) < len(lower) {
		return false
	}
	for i, c := range b[len(b)-len(lower):] {
		if lowerASCII(c) != lower[i] {
			return false
		}
	}
	return true
}

// spacedWord reports the dot or at sign that text, which begins with a space,
// spells as " [dot] " or " (at) " between two letters or digits, and its length.
func spacedWord(before byte, text string) (meaning byte, length int) {
	if !isAlnum(before) || len(text) < len(" [at]x") {
		return 0, 0
	}
	var closing byte
	switch text[1] {
	case '[':
		closing = ']'
	case '(':
		closing = ')'
	case '{':
		closing = '}'
	default:
		return 0, 0
	}
	for _, word := range []struct {
		text    string
		meaning byte
	}{{"dot", '.'}, {"at", '@'}} {
		end := 2 + len(word.text)
		if len(text) <= end || text[end] != closing || !strings.EqualFold(text[2:end], word.text) {
			continue
		}
		end++
		if end < len(text) && text[end] == ' ' {
			end++
		}
		if end < len(text) && isAlnum(text[end]) {
			return word.meaning, end
		}
	}
	return 0, 0
}

// fold gives the ASCII character that NFKC makes of r, e.g. of full-width and
// mathematical letters and of the Kelvin sign. Zero means there is none. Longer
// expansions are left alone, so folding never makes text longer.
func fold(r rune, encoded string) byte {
	switch {
	case '！' <= r && r <= '～':
		return byte(r - '！' + '!')
	case 0x3000 <= r && r <= 0x9fff: // kana and Han: the common case in our text
		return 0
	}
	d := norm.NFKC.PropertiesString(encoded).Decomposition()
	if len(d) == 1 && d[0] > ' ' && d[0] < 0x7f {
		return d[0]
	}
	return 0
}

// invisible reports characters that are removed wherever they stand: zero-width
// and bidirectional characters, soft hyphens, variation selectors.
func invisible(r rune) bool {
	return unicode.Is(unicode.Cf, r) || 0xfe00 <= r && r <= 0xfe0f || r == 0x034f
}

// refangWhole reads s as one value. It reports false where s holds space, control
// characters or invalid UTF-8.
func refangWhole(s string) (string, bool) {
	var f refanger
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			return "", false
		case r == ' ':
			if f.place == rest || len(f.out) == 0 {
				return "", false
			}
			meaning, length := spacedWord(f.out[len(f.out)-1], s[i:])
			if length == 0 {
				return "", false
			}
			f.put(meaning)
			size = length
		case r <= ' ' || r == 0x7f:
			return "", false
		case r < utf8.RuneSelf:
			f.put(byte(r))
		case invisible(r):
		case unicode.IsSpace(r) || unicode.IsControl(r):
			return "", false
		case f.place != rest && (r == '。' || r == '｡') && f.betweenAlnum(s[i+size:]):
			// An input method set to Japanese types the dot this way.
			f.folded = true
			f.put('.')
		default:
			f.letter(r, s[i:i+size])
		}
		i += size
	}
	return string(f.out), true
}

// letter appends a character beyond ASCII, folded where the place allows.
func (f *refanger) letter(r rune, encoded string) {
	if f.place != rest || f.folded {
		if c := fold(r, encoded); c != 0 {
			f.folded = true
			f.put(c)
			return
		}
	}
	f.keep(encoded)
}

func (f *refanger) betweenAlnum(following string) bool {
	if len(f.out) == 0 || !isAlnum(f.out[len(f.out)-1]) {
		return false
	}
	r, size := utf8.DecodeRuneInString(following)
	if r < utf8.RuneSelf {
		return isAlnum(byte(r))
	}
	return isAlnum(fold(r, following[:size]))
}

func isAlnum(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func isHex(c byte) bool { return '0' <= c && c <= '9' || 'a' <= lowerASCII(c) && lowerASCII(c) <= 'f' }

func lowerASCII(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + ('a' - 'A')
	}
	return c
}
