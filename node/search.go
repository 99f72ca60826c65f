package node

import (
	"context"
	"database/sql"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"

	"minato.example/internal/stix"
	pb "minato.example/proto/minato/v1"
)

// A search has at most so many words and characters.
const (
	maxQueryWords = 32
	maxQueryRunes = 2048
)

// search finds reports of a lane, newest first, by words of their text or by
// one indicator in any form, defanged or not. Several words must all be there.
// An empty query finds everything. limit 0 means 100, at most 500; next is
// empty on the last page.
func (s *store) search(ctx context.Context, lane pb.Lane, query string, limit int, token string) (items []*pb.InboxItem, next string, err error) {
	inbox, err := tablesOf(lane)
	if err != nil {
		return nil, "", err
	}
	below, err := before(token)
	if err != nil {
		return nil, "", err
	}
	limit = pageSize(limit)
	where, args, err := matching(inbox, query, below, limit+1)
	if err != nil {
		return nil, "", err
	}
	rows, err := s.inboxRows(ctx, inbox, where, args...)
	if err != nil {
		return nil, "", err
	}
	if len(rows) > limit {
		rows, next = rows[:limit], strconv.FormatInt(rows[limit-1].row, 10)
	}
	for _, r := range rows {
		// Nobody finds out by searching what has run out.
		if query == "" || !expired(r.item.GetRestrictions(), s.now()) {
			items = append(items, r.item)
		}
	}
	return items, next, nil
}

// matching is the condition that finds the rows of one page. Each source of
// rows is cut to the page by itself, newest first, so that a word that stands
// in every report costs no more than a rare one.
func matching(inbox, query string, below int64, most int) (where string, args []any, err error) {
	if len(query) > 4*maxQueryRunes {
		return "", nil, invalidQuery()
	}
	words := strings.FieldsFunc(fold(query), breaks)
	if len(words) == 0 {
		return `row < ? ORDER BY row DESC LIMIT ?`, []any{below, most}, nil
	}
	runes := 0
	for _, w := range words {
		runes += len([]rune(w))
	}
	if len(words) > maxQueryWords || runes > maxQueryRunes {
		return "", nil, invalidQuery()
	}
	const (
		byWords     = `SELECT * FROM (SELECT rowid FROM {inbox}_words WHERE words MATCH ? AND rowid < ? ORDER BY rowid DESC LIMIT ?)`
		byIndicator = `SELECT * FROM (SELECT row FROM {inbox}_indicators WHERE value = ? AND type = ? AND row < ? ORDER BY row DESC LIMIT ?)`
	)
	sources := []string{byWords}
	args = []any{matchWords(words), below, most}
	if o, ok := stix.Normalize(query); ok {
		sources = append(sources, byIndicator)
		args = append(args, o.Value, o.Type, below, most)
		if plain := strings.FieldsFunc(fold(o.Value), breaks); len(plain) > 0 {
			sources = append(sources, byWords)
			args = append(args, matchWords(plain), below, most)
		}
	}
	where = inLane(inbox, `row IN (`+strings.Join(sources, ` UNION `)+`) ORDER BY row DESC LIMIT ?`)
	return where, append(args, most), nil
}

// indexed gives what is found by search: the text and the indicators of a
// report. An indicator inside a URL or mail address is found by its host, too.
func indexed(d *pb.Delivery, r *pb.Report, observables []stix.Observable) (words string, found map[stix.Observable]struct{}) {
	technical := r.GetAttackTechnical()
	ransom := technical.GetRansom()
	free := []string{r.GetTitle(), r.GetSummary(), technical.GetText(), r.GetResponse(), r.GetSpread().GetText(), ransom.GetNote()}
	text := append([]string{
		d.GetSourceName(), r.GetReporter().GetOrganisation(), r.GetPlace().GetPort(), r.GetPlace().GetTerminal(),
		r.GetImpact().GetUsersEffect(), ransom.GetFamily(), ransom.GetExtension(), ransom.GetIntrusionPath(),
	}, free...)
	for _, list := range [][]string{technical.GetMalware(), technical.GetTechniques(), technical.GetVulnerabilities(), technical.GetTools(), r.GetImpact().GetAffectedServices()} {
		text = append(text, list...)
	}
	for _, system := range r.GetAffectedSystems() {
		text = append(text, system.GetProduct()+" "+system.GetVersion())
	}
	found = make(map[stix.Observable]struct{})
	for _, i := range technical.GetIndicators() {
		text = append(text, i.GetValue(), i.GetDescription())
		if o, ok := stix.Normalize(i.GetValue()); ok {
			found[o] = struct{}{}
		}
	}
	for _, t := range free {
		for _, o := range stix.Observables(t) {
			found[o] = struct{}{}
		}
	}
	for _, o := range observables {
		found[o] = struct{}{}
		if o.Type == pb.IndicatorType_INDICATOR_TYPE_FILE_NAME {
			text = append(text, o.Value)
		}
	}
	for _, o := range slices.Collect(maps.Keys(found)) {
		if host, ok := hostOf(o); ok {
			found[host] = struct{}{}
		}
	}
	// Lines keep words of two fields apart.
	return strings.Join(text, "\n"), found
}

// hostOf is the host of a URL or of a mail address.
func hostOf(o stix.Observable) (stix.Observable, bool) {
	switch o.Type {
	case pb.IndicatorType_INDICATOR_TYPE_URL:
		if u, err := url.Parse(o.Value); err == nil {
			return stix.Normalize(u.Hostname())
		}
	case pb.IndicatorType_INDICATOR_TYPE_EMAIL:
		if at := strings.LastIndexByte(o.Value, '@'); at >= 0 {
			return stix.Normalize(o.Value[at+1:])
		}
	}
	return stix.Observable{}, false
}

// index adds a report to the index of its lane.
func (s *store) index(tx *sql.Tx, inbox string, row int64, words string, found map[stix.Observable]struct{}) error {
	if _, err := tx.Exec(inLane(inbox, `INSERT INTO {inbox}_words (rowid, words) VALUES (?, ?)`), row, bigrams(words)); err != nil {
		return err
	}
	if len(found) == 0 {
		return nil
	}
	add, err := tx.Prepare(inLane(inbox, `INSERT INTO {inbox}_indicators (value, type, row) VALUES (?, ?, ?)`))
	if err != nil {
		return err
	}
	defer add.Close()
	for o := range found {
		if _, err := add.Exec(o.Value, o.Type, row); err != nil {
			return err
		}
	}
	return nil
}

// fold brings text into the form that is compared: NFKC (half-width kana and
// full-width Latin letters fold), lower case. Kana stay as they are. What is
// not seen, such as a zero-width space, is left out.
func fold(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.Is(unicode.Cf, r) || unicode.Is(unicode.Variation_Selector, r) {
			return -1
		}
		return r
	}, s)
	return norm.NFKC.String(strings.Map(unicode.ToLower, norm.NFKC.String(s)))
}

// breaks says whether a rune ends a run of text.
func breaks(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }

// bigrams writes text as tokens for the full-text index: every pair of
// neighbouring runes, then the last rune of each run alone. Japanese has no
// spaces between words and its words often have two characters, so pairs are
// what a search needs; and since every token is made here of letters and
// digits only, the tokenizer of SQLite never decides anything.
func bigrams(text string) string {
	var b strings.Builder
	for _, run := range strings.FieldsFunc(fold(text), breaks) {
		last := rune(-1)
		for _, r := range run {
			if last >= 0 {
				writeRune(&b, last)
				writeRune(&b, r)
				b.WriteByte(' ')
			}
			last = r
		}
		writeRune(&b, last)
		b.WriteByte(' ')
	}
	return b.String()
}

// matchWords is the full-text expression for folded words: one rune is the
// start of a token, more are a phrase of pairs; all words must be there. It
// holds nothing but what is written here: a query is never syntax.
func matchWords(words []string) string {
	var b strings.Builder
	for i, w := range words {
		if i > 0 {
			b.WriteString(" AND ")
		}
		b.WriteByte('"')
		runes := []rune(w)
		for j := range len(runes) - 1 {
			writeRune(&b, runes[j])
			writeRune(&b, runes[j+1])
			b.WriteByte(' ')
		}
		if len(runes) == 1 {
			writeRune(&b, runes[0])
			b.WriteString(`" *`)
			continue
		}
		b.WriteByte('"')
	}
	return b.String()
}

// writeRune writes a rune as four digits of base 36: 36^4 exceeds the number
// of code points, so the width is fixed and the start of a token is one rune.
func writeRune(b *strings.Builder, r rune) {
	const digits = "0123456789abcdefghijklmnopqrstuvwxyz"
	n := uint32(r)
	b.Write([]byte{digits[n/46656%36], digits[n/1296%36], digits[n/36%36], digits[n%36]})
}
