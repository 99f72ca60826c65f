package stix

import (
	"bytes"
	"strings"
	"unicode"
	"unicode/utf8"

	pb "minato.example/proto/minato/v1"
)

// Observables finds the indicators in running text, Japanese text without spaces
// included, in the order of the text and without repetition. The forms are those
// of Normalize, with these differences, which keep words of the text from being
// taken for indicators or for a part of one:
//
//   - "。" ends a sentence; it is not a dot.
//   - A URL ends at the first character beyond ASCII after its host.
//   - An international name is found in a URL, as punycode, or if its script is
//     written with spaces; 例え.jp inside a Japanese sentence is not.
//   - Only the usual schemes of the network make a URL.
//   - A plain name in .zip, .mov, .sh, .py, .so or .md is a file.
//   - Parts of a path and networks such as 192.0.2.0/24 are no indicators.
func Observables(text string) []Observable {
	var found collection
	var f refanger
	for i := 0; i < len(text); {
		r, size := utf8.DecodeRuneInString(text[i:])
		if meaning, length := wordAt(&f, text[i:]); length > 0 {
			f.defanged = true
			f.put(meaning)
			i += length
			continue
		}
		switch {
		case endsChunk(r, size):
			flush(&f, &found)
		case r < utf8.RuneSelf:
			f.put(byte(r))
		case invisible(r):
		case '！' <= r && r <= '～' && !foldsInText(r, text, i, size):
			flush(&f, &found)
		case unicode.IsLetter(r), unicode.IsMark(r), unicode.IsNumber(r), fold(r, text[i:i+size]) != 0:
			f.letter(r, text[i:i+size])
		default: // 、。「」 and every other sign
			flush(&f, &found)
		}
		i += size
	}
	flush(&f, &found)
	return found.list
}

// wordAt is spacedWord at a place of running text.
func wordAt(f *refanger, text string) (meaning byte, length int) {
	if text[0] != ' ' || len(f.out) == 0 || f.place == rest {
		return 0, 0
	}
	return spacedWord(f.out[len(f.out)-1], text)
}

// endsChunk reports the ASCII characters that stand in no indicator, and broken
// UTF-8.
func endsChunk(r rune, size int) bool {
	switch r {
	case '"', '<', '>', '`', '|', '^', 0x7f:
		return true
	case utf8.RuneError:
		return size == 1
	}
	return r <= ' '
}

// foldsInText tells full-width signs that belong to a full-width indicator from
// the punctuation of Japanese text: （, ： and ， divide words unless full-width
// letters or digits stand on both sides.
func foldsInText(r rune, text string, i, size int) bool {
	switch r {
	case '．', '／', '＠', '－', '＿', '［', '］', '｛', '｝':
		return true
	}
	if c := fold(r, text[i:i+size]); isAlnum(c) {
		return true
	}
	inside := func(r rune) bool {
		return r == '：' || r == '／' || '！' <= r && r <= '～' && isAlnum(byte(r-'！'+'!'))
	}
	before, _ := utf8.DecodeLastRuneInString(text[:i])
	after, _ := utf8.DecodeRuneInString(text[i+size:])
	return inside(before) && inside(after)
}

// flush searches the chunk that f holds and starts the next one.
func flush(f *refanger, found *collection) {
	if len(f.out) >= len("::1") {
		c := chunk{text: f.out, defanged: f.defanged, found: found}
		c.search()
	}
	f.reset()
}

// chunk is a piece of refanged text without space.
type chunk struct {
	text     []byte
	defanged bool
	found    *collection
}

// search takes out the URLs and looks for everything else between them. Every
// step moves forward past what it has read, so the time is linear.
func (c *chunk) search() {
	done := 0
	for {
		at := bytes.Index(c.text[done:], []byte("://"))
		if at < 0 {
			break
		}
		at += done
		start, known := schemeBefore(c.text[done:at])
		start += done
		if known {
			if o, length, ok := urlIn(c.text[start:], at-start); length > 0 {
				c.tokens(c.text[done:start])
				if ok {
					c.found.add(o)
				}
				done = start + length
				continue
			}
		}
		c.tokens(c.text[done:at])
		done = at + len("://")
	}
	c.tokens(c.text[done:])
}

// schemes are those that running text may use, longest first where one ends
// with another.
var schemes = []string{"https", "http", "hxxps", "hxxp", "sftp", "ftps", "fxps", "ftp", "fxp", "wss", "ws", "ldaps", "ldap", "smb", "ssh", "tcp", "udp", "rdp"}

// schemeBefore finds the scheme that b ends with. A word may run into it:
// "URLhttp".
func schemeBefore(b []byte) (start int, known bool) {
	for _, s := range schemes {
		if hasSuffixFold(b, s) {
			return len(b) - len(s), true
		}
	}
	return 0, false
}

// urlIn reads the URL that b begins with; its "://" is at colon. It reports how
// much it has read: zero if there is no host, and the whole of a URL that is too
// long, so that no byte is searched twice.
func urlIn(b []byte, colon int) (o Observable, length int, ok bool) {
	const longestAuthority = 1024
	begin := colon + len("://")
	end := begin // of the authority
	for end < len(b) && end-begin < longestAuthority && !isAuthorityEnd(b[end]) && (isURLByte(b[end]) || b[end] >= utf8.RuneSelf) {
		end++
	}
	if end == len(b) || !isAuthorityEnd(b[end]) {
		end = begin + len(trimURL(b[begin:end]))
	}
	if place := b[begin:end]; hostIsLikely(place) {
		if _, ok := normalizeAuthority(string(place)); ok {
			stop := endOfRest(b, end)
			url := trimURL(b[:stop])
			if len(url) > 2*maxValue {
				return Observable{}, stop, false
			}
			o, ok = asURL(string(url))
			return o, len(url), ok
		}
	}
	// Something runs into the host: "http://a.example,http://b.example" or
	// Japanese text. Read the host alone.
	end = begin
	for end < len(b) && end-begin < longestAuthority && (isAlnum(b[end]) || strings.IndexByte("-._:@[]%", b[end]) >= 0) {
		end++
	}
	if o, ok = asURL(string(trimURL(b[:end]))); !ok {
		return Observable{}, 0, false
	}
	return o, end, true
}

// hostIsLikely refuses an international host whose last label is not ASCII: in
// running text the host has ended before and words follow.
func hostIsLikely(authority []byte) bool {
	last := authority[bytes.LastIndexByte(authority, '.')+1:]
	return len(authority) > 0 && isASCII(string(last))
}

func isAuthorityEnd(c byte) bool { return c == '/' || c == '?' || c == '#' }

// isURLByte reports the characters of RFC 3986 but the apostrophe, which is a
// quotation mark more often.
func isURLByte(c byte) bool { return isAlnum(c) || strings.IndexByte("-._~:/?#[]@!$&()*+,;=%", c) >= 0 }

// endOfRest finds the end of path, query and fragment, which begin at from: the
// first character that stands in no URL, or the next URL of a list such as
// "http://a.example/,http://b.example/".
func endOfRest(b []byte, from int) int {
	if from == len(b) || !isAuthorityEnd(b[from]) {
		return from
	}
	i, divider := from, -1
	for ; i < len(b) && isURLByte(b[i]); i++ {
		switch c := b[i]; {
		case c == ',' || c == ';':
			divider = i
		case c == ':' && divider >= 0 && bytes.HasPrefix(b[i:], []byte("://")):
			if start, known := schemeBefore(b[divider+1 : i]); known && start == 0 {
				return divider
			}
		}
	}
	return i
}

// trimURL takes off what ends a sentence and closing brackets that the URL does
// not open.
func trimURL(url []byte) []byte {
	round := bytes.Count(url, []byte("(")) - bytes.Count(url, []byte(")"))
	square := bytes.Count(url, []byte("[")) - bytes.Count(url, []byte("]"))
	for len(url) > 0 {
		switch url[len(url)-1] {
		case '.', ',', ';', ':', '!', '?', '*':
		case ')':
			if round >= 0 {
				return url
			}
			round++
		case '(':
			round--
		case ']':
			if square >= 0 {
				return url
			}
			square++
		case '[':
			square--
		default:
			return url
		}
		url = url[:len(url)-1]
	}
	return url
}

// tokens looks for everything but URLs.
func (c *chunk) tokens(b []byte) {
	for i := 0; i < len(b); {
		start := i
		for i < len(b) {
			n := tokenRune(b[i:])
			if n == 0 {
				break
			}
			i += n
		}
		if i > start {
			c.token(b, start, i)
			continue
		}
		_, size := utf8.DecodeRune(b[i:])
		i += size
	}
}

// tokenRune gives the size of the first character of b if it may stand in a
// name. Letters of scripts without spaces, or with endings glued to names, end
// a token.
func tokenRune(b []byte) int {
	if c := b[0]; c < utf8.RuneSelf {
		if isAlnum(c) || strings.IndexByte("-._:@+%", c) >= 0 {
			return 1
		}
		return 0
	}
	r, size := utf8.DecodeRune(b)
	if unicode.In(r, unicode.Latin, unicode.Cyrillic, unicode.Greek, unicode.Mn) {
		return size
	}
	return 0
}

// token examines b[start:end].
func (c *chunk) token(b []byte, start, end int) {
	const longest = 1024
	// A name after a single slash, or after a backslash, is part of a path.
	inPath := start > 0 && (b[start-1] == '\\' || b[start-1] == '/') && (start < 2 || b[start-2] != b[start-1])
	prefix := prefixLength(b[end:])
	t := bytes.Trim(b[start:end], ".@+%-")
	if len(t) > longest {
		return
	}
	if bytes.IndexByte(t, '@') >= 0 {
		c.email(string(t))
		return
	}
	if bytes.IndexByte(t, ':') >= 0 {
		c.colons(string(t), inPath, prefix)
		return
	}
	c.name(string(t), inPath, prefix)
}

// prefixLength gives the digits of the "/24" that b begins with, or nothing.
func prefixLength(b []byte) string {
	n := 1
	for n < len(b) && n < 4 && isDigit(b[n]) {
		n++
	}
	if len(b) < 2 || b[0] != '/' || n < len(b) && (isAlnum(b[n]) || b[n] == '.') {
		return ""
	}
	return string(b[1:n])
}

// address adds a unless the prefix length makes it a network.
func (c *chunk) address(a Observable, prefix string) {
	if prefix == "" || prefix == "32" && a.Type == pb.IndicatorType_INDICATOR_TYPE_IPV4 || prefix == "128" {
		c.found.add(a)
	}
}

// email reads user@host, with "mailto:" before and a port behind.
func (c *chunk) email(t string) {
	local, domain, _ := strings.Cut(t, "@")
	local = local[strings.LastIndexByte(local, ':')+1:]
	domain, _, _ = strings.Cut(domain, ":")
	if o, ok := asEmail(local + "@" + strings.TrimRight(domain, ".+%-")); ok {
		c.found.add(o)
	}
}

// colons reads an IPv6 address, or the parts of "label:value" and "host:port".
func (c *chunk) colons(t string, inPath bool, prefix string) {
	address := t
	if word, after, _ := strings.Cut(t, ":"); strings.Trim(word, "0123456789abcdefABCDEF") != "" {
		address = after // "IPv6:2001:db8::1"
	}
	if !strings.HasPrefix(address, "::") {
		address = strings.TrimPrefix(address, ":")
	}
	if !strings.HasSuffix(address, "::") {
		address = strings.TrimSuffix(address, ":")
	}
	if o, ok := asAddress(address); ok {
		if strings.ContainsAny(address, "0123456789") { // a::b is a word of a program
			c.address(o, prefix)
		}
		return
	}
	for part := range strings.SplitSeq(t, ":") {
		c.name(strings.Trim(part, ".+%-"), inPath, prefix)
	}
}

// name reads an IPv4 address, a hash or a domain.
func (c *chunk) name(t string, inPath bool, prefix string) {
	if o, ok := asHash(t); ok {
		c.found.add(o)
		return
	}
	if strings.IndexByte(t, '.') < 0 {
		return
	}
	if strings.Trim(t, "0123456789.-") == "" {
		for part := range strings.SplitSeq(t, "-") { // 192.0.2.1-192.0.2.9
			if o, ok := asAddress(part); ok {
				c.address(o, prefix)
			}
		}
		return
	}
	if inPath {
		return
	}
	o, ok := asDomain(t)
	if ok && (c.defanged || !fileOrDomain[o.Value[strings.LastIndexByte(o.Value, '.')+1:]]) {
		c.found.add(o)
	}
}
