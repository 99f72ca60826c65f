package stix

import "strings"

// inPattern lists the values that the comparisons of a STIX pattern (STIX 2.1
// section 9) ask for: those of "=" and IN without NOT. Patterns of LIKE and
// MATCHES, networks and negated values are no values. It does not check the
// pattern; it reads up to the first place where a string does not end.
func inPattern(pattern string) []Observable {
	p := patternReader{text: pattern}
	for p.next() {
	}
	return p.found
}

// patternReader walks over the words of a pattern and remembers the comparison
// that it stands in.
type patternReader struct {
	text    string
	found   []Observable
	path    string
	negated bool
	wanted  wanted
}

type wanted uint8

const (
	nothing wanted = iota
	oneValue
	aSet
)

// next reads one word. It reports false at the end.
func (p *patternReader) next() bool {
	p.text = strings.TrimLeft(p.text, " \t\r\n\u00a0\u3000")
	if p.text == "" {
		return false
	}
	switch c := p.text[0]; {
	case c == '\'':
		value, ok := p.literal()
		if !ok {
			return false
		}
		p.take(value)
	case isAlnum(c) || c == '_':
		p.word()
	case strings.HasPrefix(p.text, "/*"):
		_, after, ended := strings.Cut(p.text, "*/")
		p.text = after
		return ended
	case strings.HasPrefix(p.text, "//"):
		_, p.text, _ = strings.Cut(p.text, "\n")
	case c == '!' || c == '<' || c == '>':
		p.wanted = nothing
		p.text = strings.TrimLeft(p.text, "!<>=")
	case c == '=':
		p.text = strings.TrimLeft(p.text, "=")
		p.want(oneValue)
	default:
		if c == ')' || c == '[' || c == ']' {
			p.wanted = nothing
		}
		p.text = p.text[1:]
	}
	return true
}

func (p *patternReader) want(w wanted) {
	if p.wanted = w; p.negated {
		p.wanted = nothing
	}
}

// word reads a keyword, a number, an object path or a typed literal.
func (p *patternReader) word() {
	word := p.identifier()
	switch {
	case strings.HasPrefix(p.text, ":"):
		p.text = p.text[1:]
		p.path, p.negated, p.wanted = word+":"+p.steps(), false, nothing
	case strings.HasPrefix(p.text, "'"): // h'..', b'..', t'..'
		if _, ok := p.literal(); !ok {
			p.text = ""
		}
		p.wanted = nothing
	case word == "NOT":
		p.negated = true
	case word == "IN":
		p.want(aSet)
	case p.wanted != aSet:
		p.wanted = nothing
	}
}

func (p *patternReader) identifier() string {
	n := 0
	for n < len(p.text) && (isAlnum(p.text[n]) || p.text[n] == '_' || p.text[n] == '-') {
		n++
	}
	word := p.text[:n]
	p.text = p.text[n:]
	return word
}

// steps reads the steps of an object path: names, quoted names, indexes.
func (p *patternReader) steps() string {
	var path strings.Builder
	for p.text != "" {
		switch c := p.text[0]; {
		case c == '\'':
			name, ok := p.literal()
			if !ok {
				return ""
			}
			path.WriteString(name)
		case isAlnum(c) || c == '_' || c == '-':
			path.WriteString(p.identifier())
		case c == '.':
			path.WriteByte(c)
			p.text = p.text[1:]
		case c == '[': // [*] or [3]
			end := strings.IndexByte(p.text[:min(len(p.text), 16)], ']')
			if end < 0 {
				return path.String()
			}
			path.WriteString(p.text[:end+1])
			p.text = p.text[end+1:]
		default:
			return path.String()
		}
	}
	return path.String()
}

// literal reads a string with its quotation marks and resolves \' and \\.
func (p *patternReader) literal() (value string, ok bool) {
	body := p.text[1:]
	end := strings.IndexAny(body, `'\`)
	if end >= 0 && body[end] == '\'' {
		p.text = body[end+1:]
		return body[:end], true
	}
	var b strings.Builder
	for i := 0; i < len(body); i++ {
		switch body[i] {
		case '\'':
			p.text = body[i+1:]
			return b.String(), true
		case '\\':
			if i++; i < len(body) {
				b.WriteByte(body[i])
			}
		default:
			b.WriteByte(body[i])
		}
	}
	p.text = ""
	return "", false
}

// take keeps a value that the comparison asks for, if its path tells what it is.
func (p *patternReader) take(value string) {
	if p.wanted == nothing {
		return
	}
	if p.wanted == oneValue {
		p.wanted = nothing
	}
	if o, ok := atPath(p.path, value); ok {
		p.found = append(p.found, o)
	}
}

// atPath reads a value by the object path it is compared with.
func atPath(path, value string) (Observable, bool) {
	kind, steps, _ := strings.Cut(path, ":")
	if steps == "value" && hasValue(kind) {
		return valueOf(value)
	}
	parent, last := "", steps
	if dot := strings.LastIndexByte(steps, '.'); dot >= 0 {
		parent, last = steps[:dot], steps[dot+1:]
	}
	switch {
	case path == "file:name", last == "name" && namesFile(parent):
		return fileName(value)
	case parent == "hashes" && (kind == "file" || kind == "artifact"), strings.HasSuffix(parent, "_ref.hashes"):
		return hashOf(last, value)
	case last == "value" && (strings.HasSuffix(parent, "_ref") || strings.Contains(parent, "_refs[")):
		return valueOf(value) // of src_ref, from_ref and the like
	}
	return Observable{}, false
}

// namesFile reports the references whose target is a file.
func namesFile(reference string) bool {
	for _, r := range []string{"image_ref", "binary_ref", "body_raw_ref", "content_ref"} {
		if strings.HasSuffix(reference, r) {
			return true
		}
	}
	return false
}
