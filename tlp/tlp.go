// Package tlp decides who may receive a report under the FIRST Traffic Light
// Protocol 2.0. It is pure: it does no I/O, holds no state and imports only the
// standard library.
//
// A Label says how far information may travel, a Relation says what a reader is
// to a report, and Permits joins the two. Whatever is not known to be allowed
// is refused: the zero label and every unknown label permit nobody.
package tlp

import "strings"

// Label is one of the five labels of TLP 2.0 (取扱範囲). The zero value means that
// no label was given. The numbers equal those of TlpLabel in the contract, and a
// higher number is a stricter label.
type Label uint8

// The labels, from the widest audience to the narrowest.
const (
	Unlabelled Label = iota
	Clear
	Green
	Amber
	AmberStrict
	Red
)

// String returns the label exactly as FIRST writes it, e.g. "TLP:AMBER+STRICT".
// It is empty for Unlabelled and for unknown labels.
func (l Label) String() string {
	switch l {
	case Clear:
		return "TLP:CLEAR"
	case Green:
		return "TLP:GREEN"
	case Amber:
		return "TLP:AMBER"
	case AmberStrict:
		return "TLP:AMBER+STRICT"
	case Red:
		return "TLP:RED"
	}
	return ""
}

// Valid reports whether l is one of the five labels.
func (l Label) Valid() bool { return l >= Clear && l <= Red }

// NeedsCommunity reports whether a report under l must name its community.
// FIRST gives an undefined community a very wide meaning, so it is never left
// undefined here.
func (l Label) NeedsCommunity() bool { return l == Green }

// NeedsRecipients reports whether a report under l must name its recipients.
func (l Label) NeedsRecipients() bool { return l == Amber || l == AmberStrict || l == Red }

// NeedsSeal reports whether a report under l is sealed to those who may open
// it, so that the hub cannot read it.
func (l Label) NeedsSeal() bool { return l == AmberStrict || l == Red }

// NeedsPersons reports whether every recipient under l must be a person.
func (l Label) NeedsPersons() bool { return l == Red }

// Meaning says in one sentence for people, in Japanese and in English, who may
// see information under l. The sentences follow the definitions of FIRST in our
// own words; the label itself is never translated.
func (l Label) Meaning() (ja, en string) {
	switch l {
	case Clear:
		return "だれにでも共有でき、公開もできます(著作権などの定めには従います)。",
			"Anyone may see it and it may be published, subject to copyright."
	case Green:
		return "指定したコミュニティの中で共有できますが、だれでも見られる場所には出せません。",
			"It may be shared within the named community, but not through channels open to the public."
	case Amber:
		return "宛先の組織と、自らを守るために必要なその顧客のうち、知る必要のある人だけが見られます。",
			"Only those who need to know may see it, in the addressed organisations and among the clients who need it to protect themselves."
	case AmberStrict:
		return "宛先の組織の中で知る必要のある人だけが見られ、顧客にも渡せません。",
			"Only those who need to know inside the addressed organisations may see it; it does not go on to their clients."
	case Red:
		return "名指しされた本人だけが見られ、同じ組織の人も含めて他のだれにも渡せません。",
			"Only the persons named may see it; they pass it on to nobody, not even within their own organisation."
	}
	return "ラベルがないため、だれにも共有しません。",
		"It has no valid label and is shared with nobody."
}

// Relation is what a reader is to a report: a set of facts. The empty set is the
// public.
type Relation uint8

// The facts. They are independent; a caller sets every one that holds.
const (
	// Member: the reader belongs to a member of this port.
	Member Relation = 1 << iota
	// InCommunity: the reader's organisation belongs to the report's community.
	InCommunity
	// Addressed: the reader's organisation is among the recipients.
	Addressed
	// ClientOfAddressed: the organisation is a client of an addressed one, which
	// passes the report on for the client's protection.
	ClientOfAddressed
	// NamedPerson: the reader is a person whom the report names as recipient.
	NamedPerson
	// Origin: the reader's organisation made the report.
	Origin
)

// Permits reports whether a reader related by r may see a report labelled l.
//
// Under TLP:GREEN an address does not widen the community: an addressed
// organisation outside it is not permitted, and the sender hears of it before
// anything is sent. The origin may read its own report under every valid label.
func Permits(l Label, r Relation) bool {
	switch l {
	case Clear:
		return true
	case Green:
		return r&(InCommunity|Origin) != 0
	case Amber:
		return r&(Addressed|ClientOfAddressed|NamedPerson|Origin) != 0
	case AmberStrict:
		return r&(Addressed|NamedPerson|Origin) != 0
	case Red:
		return r&(NamedPerson|Origin) != 0
	}
	return false
}

// Strictest returns the label that holds for something made of parts under the
// given labels (継承). A part without a valid label makes the whole Unlabelled,
// which permits nobody; so does a call without labels.
func Strictest(labels ...Label) Label {
	strictest := Unlabelled
	for _, l := range labels {
		if !l.Valid() {
			return Unlabelled
		}
		strictest = max(strictest, l)
	}
	return strictest
}

// Parse reads a label with or without the prefix "TLP:", in any case of the
// ASCII letters, with space around it. "TLP:WHITE", the name of TLP 1.0 for
// TLP:CLEAR, gives Clear and legacy true. Everything else is refused with a
// *ParseError: a label that has to be guessed is no label.
func Parse(s string) (l Label, legacy bool, err error) {
	trimmed := strings.TrimSpace(s)
	switch upperASCII(trimmed) {
	case "TLP:CLEAR", "CLEAR":
		return Clear, false, nil
	case "TLP:WHITE", "WHITE":
		return Clear, true, nil
	case "TLP:GREEN", "GREEN":
		return Green, false, nil
	case "TLP:AMBER", "AMBER":
		return Amber, false, nil
	case "TLP:AMBER+STRICT", "AMBER+STRICT":
		return AmberStrict, false, nil
	case "TLP:RED", "RED":
		return Red, false, nil
	}
	return Unlabelled, false, &ParseError{Input: presentable(trimmed), Suggestion: suggest(trimmed).String()}
}

// longestForm is the length in bytes of the longest form that Parse accepts.
const longestForm = len("TLP:AMBER+STRICT")

// upperASCII raises a-z and leaves every other character alone: under Unicode
// rules "ſ" would become S and let a look-alike pass.
func upperASCII(s string) string {
	if len(s) > longestForm {
		return ""
	}
	b := []byte(s)
	for i, c := range b {
		if 'a' <= c && c <= 'z' {
			b[i] = c - ('a' - 'A')
		}
	}
	return string(b)
}
