package stix

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	pb "minato.example/proto/minato/v1"
)

// Bounds of a bundle.
const (
	maxDepth   = 64      // objects and arrays inside one another, the bundle being 1
	maxObjects = 100_000 // entries of the bundle's objects
)

// Scan reads a STIX 2.1 bundle (STIX 2.1 section 8) strictly and lists the
// observables in its cyber-observable objects (addresses, domains, URLs, mail
// addresses, file hashes and names, also inside observed-data) and in the
// comparisons of its STIX patterns.
//
// Refused are: broken JSON and broken UTF-8; a name that occurs twice in one
// object; data after the bundle; more than 64 levels or 100,000 objects;
// anything but a bundle with an id and an array of objects that each have a type
// and an id; and names that differ from type, id, objects, object_marking_refs
// or granular_markings in case only. The reason is always the same: a document
// that two programs read differently carries its markings past one of them.
//
// The error is a *BundleError.
func Scan(bundle []byte) (Summary, error) {
	if !utf8.Valid(bundle) {
		return Summary{}, &BundleError{
			English:      "the bundle is not valid UTF-8; write it again as UTF-8",
			JapaneseText: "バンドルがUTF-8として正しくありません。UTF-8で書き出し直してください。",
		}
	}
	w := walker{dec: jsontext.NewDecoder(bytes.NewBuffer(bundle))}
	if err := w.bundle(); err != nil {
		return Summary{}, err
	}
	w.summary.Observables = w.found.list
	return w.summary, nil
}

// walker goes through a bundle once, token by token, and keeps only what it
// needs of it.
type walker struct {
	dec     *jsontext.Decoder
	found   collection
	summary Summary
}

func (w *walker) bundle() error {
	if err := w.open('{', "the bundle", "バンドル"); err != nil {
		return err
	}
	var hasType, hasObjects bool
	for {
		name, more, err := w.name()
		if err != nil {
			return err
		}
		if !more {
			break
		}
		switch name {
		case "type":
			kind, err := w.text()
			if err != nil {
				return err
			}
			if kind != "bundle" {
				return w.refuse(`the type must be "bundle"; send a STIX 2.1 bundle`, "type は \"bundle\" でなければなりません。STIX 2.1のバンドルを送ってください。")
			}
			hasType = true
		case "id":
			id, err := w.text()
			if err != nil {
				return err
			}
			uuid, found := strings.CutPrefix(id, "bundle--")
			if !found || !isUUID(uuid) {
				return w.refuse(`the id must be "bundle--" and a UUID`, "id は \"bundle--\" にUUIDを続けたものでなければなりません。")
			}
			w.summary.ID = id
		case "objects":
			if err := w.objects(); err != nil {
				return err
			}
			hasObjects = true
		default:
			if err := w.skip(); err != nil {
				return err
			}
		}
	}
	for _, missing := range []struct {
		name    string
		present bool
	}{{"type", hasType}, {"id", w.summary.ID != ""}, {"objects", hasObjects}} {
		if !missing.present {
			return w.refuse("the bundle has no "+missing.name+"; add it", "バンドルに "+missing.name+" がありません。追加してください。")
		}
	}
	if _, err := w.dec.ReadToken(); err != io.EOF {
		return w.refuse("something follows the bundle; send one bundle and nothing else", "バンドルの後に余分なデータがあります。バンドル一つだけを送ってください。")
	}
	return nil
}

func (w *walker) objects() error {
	if err := w.open('[', "objects", "objects"); err != nil {
		return err
	}
	for w.dec.PeekKind() != ']' {
		if err := w.open('{', "an entry of objects", "objects の要素"); err != nil {
			return err
		}
		if w.summary.Objects++; w.summary.Objects > maxObjects {
			return w.refuse("the bundle has more than 100,000 objects; split it", "バンドルのオブジェクトが100,000個を超えています。分割してください。")
		}
		o, err := w.object()
		if err != nil {
			return err
		}
		for _, missing := range []struct{ name, value string }{{"type", o.kind}, {"id", o.id}} {
			if missing.value == "" {
				return w.refuse("the object has no "+missing.name+"; add it", "オブジェクトに "+missing.name+" がありません。追加してください。")
			}
		}
		for _, x := range o.observables() {
			w.found.add(x)
		}
	}
	_, err := w.token()
	return err
}

// object holds the properties of one object that may carry observables.
type object struct {
	kind, id             string
	value, name          string
	pattern, patternType string
	hashes               []hash
	inner                []object // the objects of observed-data, in the old form
}

type hash struct{ algorithm, value string }

// object reads the properties of an object whose brace is read.
func (w *walker) object() (object, error) {
	var o object
	for {
		name, more, err := w.name()
		if err != nil || !more {
			return o, err
		}
		var into *string
		switch name {
		case "type", "id":
			// Required to be text, not only expected.
			text, err := w.text()
			if err != nil {
				return o, err
			}
			if name == "type" {
				o.kind = text
			} else {
				o.id = text
			}
			continue
		case "value":
			into = &o.value
		case "name":
			into = &o.name
		case "pattern":
			into = &o.pattern
		case "pattern_type":
			into = &o.patternType
		}
		switch kind := w.dec.PeekKind(); {
		case into != nil && kind == '"':
			*into, err = w.text()
		case name == "hashes" && kind == '{':
			o.hashes, err = w.hashes()
		case name == "objects" && kind == '{':
			o.inner, err = w.inner()
		default:
			err = w.skip()
		}
		if err != nil {
			return o, err
		}
	}
}

func (w *walker) hashes() ([]hash, error) {
	if _, err := w.token(); err != nil {
		return nil, err
	}
	var list []hash
	for w.dec.PeekKind() == '"' {
		algorithm, err := w.text()
		if err != nil {
			return nil, err
		}
		if w.dec.PeekKind() != '"' {
			if err := w.skip(); err != nil {
				return nil, err
			}
			continue
		}
		value, err := w.text()
		if err != nil {
			return nil, err
		}
		list = append(list, hash{algorithm, value})
	}
	_, err := w.token()
	return list, err
}

// inner reads the dictionary of observed-data, one level deep.
func (w *walker) inner() ([]object, error) {
	if _, err := w.token(); err != nil {
		return nil, err
	}
	var list []object
	for w.dec.PeekKind() == '"' {
		if _, err := w.token(); err != nil {
			return nil, err
		}
		if w.dec.PeekKind() != '{' {
			if err := w.skip(); err != nil {
				return nil, err
			}
			continue
		}
		if _, err := w.token(); err != nil {
			return nil, err
		}
		o, err := w.object()
		if err != nil {
			return nil, err
		}
		o.inner = nil
		list = append(list, o)
	}
	_, err := w.token()
	return list, err
}

// token reads the next token and holds the document to its depth.
func (w *walker) token() (jsontext.Token, error) {
	t, err := w.dec.ReadToken()
	if err != nil {
		return t, w.broken(err)
	}
	if w.dec.StackDepth() > maxDepth {
		return t, w.refuse("the JSON is nested more than 64 levels deep; make it flatter", "JSONの入れ子が64段を超えています。浅くしてください。")
	}
	return t, nil
}

// open reads a token that must open an object or an array.
func (w *walker) open(kind jsontext.Kind, what, whatJapanese string) error {
	t, err := w.token()
	if err != nil {
		return err
	}
	if t.Kind() != kind {
		shape, shapeJapanese := "a JSON object", "JSONオブジェクト"
		if kind == '[' {
			shape, shapeJapanese = "a JSON array", "JSON配列"
		}
		return w.refuse(what+" must be "+shape, whatJapanese+" は"+shapeJapanese+"でなければなりません。")
	}
	return nil
}

// exactNames are the names that decide what an object is and who may see it.
var exactNames = []string{"type", "id", "objects", "object_marking_refs", "granular_markings"}

// name reads the next name of an object, or the brace that closes it.
func (w *walker) name() (name string, more bool, err error) {
	t, err := w.token()
	if err != nil || t.Kind() == '}' {
		return "", false, err
	}
	name = t.String()
	for _, exact := range exactNames {
		if name != exact && strings.EqualFold(name, exact) {
			return "", false, w.refuse("the name must be written "+exact+", in small letters", "名前は小文字で "+exact+" と書かなければなりません。")
		}
	}
	return name, true, nil
}

// text reads a string.
func (w *walker) text() (string, error) {
	t, err := w.token()
	if err != nil {
		return "", err
	}
	if t.Kind() != '"' {
		return "", w.refuse("the value must be a string", "値は文字列でなければなりません。")
	}
	return t.String(), nil
}

// skip reads one value of any kind and forgets it.
func (w *walker) skip() error {
	depth := w.dec.StackDepth()
	for {
		if _, err := w.token(); err != nil {
			return err
		}
		if w.dec.StackDepth() <= depth {
			return nil
		}
	}
}

func (w *walker) refuse(english, japanese string) error {
	return &BundleError{Pointer: presentable(string(w.dec.StackPointer())), English: english, JapaneseText: japanese}
}

// broken explains what the decoder refuses. Its own words are not repeated: they
// may quote the document.
func (w *walker) broken(err error) error {
	var syntax *jsontext.SyntacticError
	pointer, offset := w.dec.StackPointer(), w.dec.InputOffset()
	if errors.As(err, &syntax) {
		pointer, offset = syntax.JSONPointer, syntax.ByteOffset
	}
	b := &BundleError{Pointer: presentable(string(pointer))}
	switch {
	case errors.Is(err, jsontext.ErrDuplicateName):
		b.English = "the name stands twice in one object; keep one of the two"
		b.JapaneseText = "同じ名前が一つのオブジェクトに二度あります。どちらか一つにしてください。"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		b.English = "the bundle ends too early; send the whole of it"
		b.JapaneseText = "バンドルが途中で終わっています。全体を送ってください。"
	default:
		b.English = fmt.Sprintf("the JSON is broken at byte %d; correct it there", offset)
		b.JapaneseText = fmt.Sprintf("%dバイト目でJSONが壊れています。そこを直してください。", offset)
	}
	return b
}

// isUUID reports whether s is a UUID in the form of RFC 9562 section 4.
func isUUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i := range len(s) {
		switch i {
		case 8, 13, 18, 23:
			if s[i] != '-' {
				return false
			}
		default:
			if !isHex(s[i]) {
				return false
			}
		}
	}
	return true
}

// observables lists what the object itself says.
func (o *object) observables() []Observable {
	var list []Observable
	keep := func(x Observable, ok bool) {
		if ok {
			list = append(list, x)
		}
	}
	if hasValue(o.kind) {
		keep(valueOf(o.value))
		return list
	}
	switch o.kind {
	case "file":
		for _, h := range o.hashes {
			keep(hashOf(h.algorithm, h.value))
		}
		keep(fileName(o.name))
	case "indicator":
		if o.patternType == "stix" {
			return inPattern(o.pattern)
		}
	case "observed-data":
		for _, inner := range o.inner {
			if inner.kind != "indicator" {
				list = append(list, inner.observables()...)
			}
		}
	}
	return list
}

// valueOf reads the value of an address, domain, URL or mail address. What it
// looks like decides, not where it stands: real feeds put links into domain-name.
// Networks are no indicators, but a network of one address is.
func valueOf(value string) (Observable, bool) {
	for _, single := range []string{"/32", "/128"} {
		if a, found := strings.CutSuffix(value, single); found {
			if o, ok := Normalize(a); ok && o.Type == singleOf[single] {
				return o, true
			}
		}
	}
	o, ok := Normalize(value)
	switch o.Type {
	case pb.IndicatorType_INDICATOR_TYPE_MD5, pb.IndicatorType_INDICATOR_TYPE_SHA1, pb.IndicatorType_INDICATOR_TYPE_SHA256:
		return Observable{}, false
	}
	return o, ok
}

// singleOf says for which addresses a prefix length leaves one address.
var singleOf = map[string]pb.IndicatorType{
	"/32":  pb.IndicatorType_INDICATOR_TYPE_IPV4,
	"/128": pb.IndicatorType_INDICATOR_TYPE_IPV6,
}

// hasValue reports the types of objects whose value is an indicator.
func hasValue(kind string) bool {
	switch kind {
	case "ipv4-addr", "ipv6-addr", "domain-name", "url", "email-addr":
		return true
	}
	return false
}

// signs takes out what writers put into the names of algorithms or leave out.
var signs = strings.NewReplacer("-", "", "_", "")

// hashOf reads one entry of a hashes dictionary. The algorithm decides: an
// imphash looks like an MD5.
func hashOf(algorithm, value string) (Observable, bool) {
	var want pb.IndicatorType
	switch signs.Replace(strings.ToUpper(algorithm)) {
	case "MD5":
		want = pb.IndicatorType_INDICATOR_TYPE_MD5
	case "SHA1":
		want = pb.IndicatorType_INDICATOR_TYPE_SHA1
	case "SHA256":
		want = pb.IndicatorType_INDICATOR_TYPE_SHA256
	}
	o, ok := asHash(strings.TrimSpace(value))
	return o, ok && o.Type == want
}

// fileName keeps a name as it stands.
func fileName(s string) (Observable, bool) {
	return Observable{pb.IndicatorType_INDICATOR_TYPE_FILE_NAME, s}, s != "" && len(s) <= maxValue
}
