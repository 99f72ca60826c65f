package anonymizer

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
	"google.golang.org/protobuf/reflect/protoreflect"

	pb "minato.example/proto/minato/v1"
)

// Names lists what a source is known by: the names of the member, its
// organisation and terminal, its desks, its contacts with telephone and mail,
// its persons; organisations also without 株式会社, Co., Ltd. and the like, people
// also by each part of their name, telephone numbers also without the leading
// zero, which an international number lacks, mail addresses also by their domain
// unless that of a provider. Names of desks that every organisation has, such as CSIRT, are left
// out: they tell of nobody. The id of the member, of four characters or more, is
// written @ID, which counts only as a word of its own: ids are short and made of
// common words. The order is that of the profile, the id last; nothing stands
// twice.
func Names(p *pb.Profile, member *pb.Member) []string {
	var names []string
	seen := map[string]bool{}
	add := func(name string) {
		if name = strings.TrimSpace(name); !seen[name] && !common[lettersOf(name).text] {
			seen[name] = true
			names = append(names, name)
		}
	}
	organisation := func(name string) {
		add(name)
		add(bare(name))
	}
	person := func(name string) {
		add(name)
		for part := range strings.FieldsSeq(name) {
			add(part)
		}
	}
	organisation(member.GetName())
	organisation(p.GetOrganisation())
	add(p.GetPlace().GetTerminal())
	for _, desk := range p.GetDesks() {
		add(desk.GetName())
		for _, c := range desk.GetContacts() {
			person(c.GetName())
			add(c.GetPhone())
			if national, zero := strings.CutPrefix(lettersOf(c.GetPhone()).text, "0"); zero {
				add(national)
			}
			add(c.GetMail())
			if _, domain, ok := strings.Cut(c.GetMail(), "@"); ok && !providers[strings.ToLower(domain)] {
				add(domain)
			}
		}
	}
	for _, one := range p.GetPersons() {
		person(one.GetName())
	}
	if id := member.GetId(); len(id) >= 4 {
		add("@" + id)
	}
	return names
}

// common are names of desks that tell of nobody.
var common = func() map[string]bool {
	all := map[string]bool{"": true}
	for name := range strings.FieldsSeq(`csirt soc it cs 窓口 代表 担当 担当者 責任者 当直 夜間窓口 緊急窓口 連絡窓口 情報連絡窓口
		総務部 総務課 経営企画部 システム部 システム課 情報システム部 情報システム課 情報セキュリティ担当 セキュリティ担当 mr ms dr`) {
		all[lettersOf(name).text] = true
	}
	return all
}()

// providers are domains of mail that tell of nobody.
var providers = func() map[string]bool {
	all := map[string]bool{}
	for name := range strings.FieldsSeq(`gmail.com googlemail.com outlook.com outlook.jp hotmail.com hotmail.co.jp live.jp icloud.com me.com
		yahoo.co.jp ymail.ne.jp yahoo.com docomo.ne.jp ezweb.ne.jp au.com softbank.ne.jp i.softbank.jp ocn.ne.jp nifty.com biglobe.ne.jp so-net.ne.jp`) {
		all[name] = true
	}
	return all
}()

// forms are the legal forms of organisations, in the form of NFKC.
var forms = []string{
	"株式会社", "(株)", "有限会社", "(有)", "合同会社", "合資会社", "合名会社",
	"一般社団法人", "一般財団法人", "公益社団法人", "公益財団法人", "協同組合",
	"co., ltd.", "co.,ltd.", "co. ltd.", "co ltd", "company, limited", "company limited", "limited", "ltd.", "ltd",
	"corporation", "corp.", "corp", "incorporated", "inc.", "inc", "k.k.", "kabushiki kaisha", "llc", "gmbh", "company", "co.",
}

// bare is the name of an organisation without its legal form.
func bare(name string) string {
	s := strings.TrimSpace(norm.NFKC.String(name))
	for again := true; again; {
		again = false
		for _, f := range forms {
			latin := f[0] < 0x80 && f[0] != '('
			if n := len(s) - len(f); n > 0 && strings.EqualFold(s[n:], f) && !(latin && isLatin(s[n-1]|0x20)) {
				s, again = strings.TrimRight(s[:n], " ,"), true
			} else if n > 0 && !latin && strings.HasPrefix(s, f) {
				s, again = strings.TrimLeft(s[len(f):], " ,"), true
			}
		}
	}
	return s
}

// Found is a name that still stands somewhere.
type Found struct {
	// Field of the report, as in the proto, such as "attack_timeline[2].text".
	Field string
	// Name as Names gave it, without the @ of an id.
	Name string
}

// Find lists the text fields of a report in which one of the names stands, with
// the first such name of each. Compared are letters and digits alone, after NFKC
// and case folding: width, case, white space, hyphens, other signs and invisible
// characters make no difference. Names of fewer than two letters are ignored. A
// name of one to four Latin letters or digits, and one that is written with an @
// before it, counts only as a word of its own, so that ONE is not found in
// "component".
//
// Fields come in the order of the contract. A copy that may name its source is
// not for this function.
func Find(r *pb.Report, names []string) []Found {
	all := wantedOf(names)
	var found []Found
	var walk func(m protoreflect.Message, path string)
	look := func(f protoreflect.FieldDescriptor, v protoreflect.Value, path string) {
		switch {
		case f.Message() != nil:
			walk(v.Message(), path+".")
		case f.Kind() == protoreflect.StringKind:
			if name, ok := stands(v.String(), all); ok {
				found = append(found, Found{path, name})
			}
		}
	}
	walk = func(m protoreflect.Message, path string) {
		for i := range m.Descriptor().Fields().Len() {
			f := m.Descriptor().Fields().Get(i)
			name := path + string(f.Name())
			switch {
			case !m.Has(f):
			case f.IsList():
				for i := range m.Get(f).List().Len() {
					look(f, m.Get(f).List().Get(i), fmt.Sprintf("%s[%d]", name, i))
				}
			default:
				look(f, m.Get(f), name)
			}
		}
	}
	walk(r.ProtoReflect(), "")
	return found
}

// FindText gives the first of the names that stands in a text, such as a
// projected STIX bundle, by the rules of Find.
func FindText(text string, names []string) (name string, found bool) {
	return stands(text, wantedOf(names))
}

// letters is a text in the form in which names are compared: its letters, digits
// and the marks on them, folded, without anything else.
type letters struct {
	text string
	// cut says of each place of text, its end included, whether something
	// visible or white space stood there.
	cut []bool
}

func lettersOf(s string) letters {
	s = norm.NFKC.String(cases.Fold().String(norm.NFKC.String(s)))
	l := letters{cut: make([]bool, 0, len(s)+1)}
	var b strings.Builder
	cut := false
	for _, r := range s {
		switch {
		case unicode.IsLetter(r), unicode.IsNumber(r), unicode.IsMark(r) && !unicode.Is(unicode.Variation_Selector, r):
			l.cut = append(l.cut, cut)
			b.WriteRune(r)
			for len(l.cut) < b.Len() {
				l.cut = append(l.cut, false)
			}
			cut = false
		case !unicode.Is(unicode.Cf, r) && !unicode.Is(unicode.Variation_Selector, r):
			cut = true
		}
	}
	l.text, l.cut = b.String(), append(l.cut, true)
	return l
}

// isLatin reports the letters and digits of ASCII in folded text.
func isLatin(c byte) bool { return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' }

// wanted is a name to look for.
type wanted struct {
	name string
	letters
	// short says that it counts only as a word of its own, as do ids.
	short bool
}

func wantedOf(names []string) (all []wanted) {
	for _, name := range names {
		id, isID := strings.CutPrefix(name, "@")
		w := wanted{name: id, letters: lettersOf(id)}
		if utf8.RuneCountInString(w.text) < 2 {
			continue
		}
		w.short = len(w.text) < 5
		for i := range len(w.text) {
			w.short = w.short && isLatin(w.text[i])
		}
		w.short = w.short || isID
		all = append(all, w)
	}
	return all
}

// stands finds the first name that stands in a text.
func stands(text string, names []wanted) (name string, found bool) {
	in := lettersOf(text)
	for _, w := range names {
		if w.in(in) {
			return w.name, true
		}
	}
	return "", false
}

func (w wanted) in(l letters) bool {
	for from := 0; ; {
		i := strings.Index(l.text[from:], w.text)
		if i < 0 {
			return false
		}
		start := from + i
		if !w.short || w.isWord(l, start) {
			return true
		}
		from = start + 1
	}
}

// isWord reports whether a short name stands as a word of its own, written in
// one or with the same signs in it as the name.
func (w wanted) isWord(l letters, start int) bool {
	end := start + len(w.text)
	if start > 0 && isLatin(l.text[start-1]) && !l.cut[start] || end < len(l.text) && isLatin(l.text[end]) && !l.cut[end] {
		return false
	}
	inner := l.cut[start+1 : end]
	return !slices.Contains(inner, true) || slices.Equal(inner, w.cut[1:len(w.text)])
}
