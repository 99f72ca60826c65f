package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"minato.example/internal/ca"
	pb "minato.example/proto/minato/v1"
)

// restrictionWord is one rule: how it is typed, shown, set and read.
type restrictionWord struct {
	typed string
	text  Text
	set   func(*pb.Restrictions)
	isSet func(*pb.Restrictions) bool
}

// restrictionWords are the rules beside the label as they are typed.
var restrictionWords = []restrictionWord{
	{"no-copy", Text{"複製禁止", "do not copy"}, func(r *pb.Restrictions) { r.NoCopy = true }, (*pb.Restrictions).GetNoCopy},
	{"no-export", Text{"持出禁止", "do not take outside"}, func(r *pb.Restrictions) { r.NoExport = true }, (*pb.Restrictions).GetNoExport},
	{"no-distribution", Text{"配布禁止", "do not distribute"}, func(r *pb.Restrictions) { r.NoDistribution = true }, (*pb.Restrictions).GetNoDistribution},
	{"chatham-house", Text{"チャタムハウスルール", "Chatham House Rule"}, func(r *pb.Restrictions) { r.ChathamHouse = true }, (*pb.Restrictions).GetChathamHouse},
}

// restrictions are the rules beside the label, which a recipient must obey.
func (a *app) restrictions(r *pb.Restrictions) []string {
	var rules []string
	for _, w := range restrictionWords {
		if w.isSet(r) {
			rules = append(rules, w.text.in(a.lang))
		}
	}
	if r.GetExpireTime() != nil {
		rules = append(rules, fmt.Sprintf(a.t("%s までに消去", "erase by %s"), a.moment(r.GetExpireTime())))
	}
	if r.GetText() != "" {
		rules = append(rules, plain(r.GetText()))
	}
	return rules
}

// bound is restrictions and duty of secrecy on one line; empty when there are
// none.
func (a *app) bound(r *pb.Restrictions, s pb.SecrecyRegime) string {
	rules := a.restrictions(r)
	if s > pb.SecrecyRegime_SECRECY_REGIME_NONE {
		rules = append(rules, word(s).in(a.lang))
	}
	return strings.Join(rules, ", ")
}

// onward are the permissions to pass a report on.
func (a *app) onward(list []*pb.OnwardPermission) string {
	var out []string
	for _, p := range list {
		out = append(out, fmt.Sprintf(a.t("%s から %s へ", "%s to %s"), a.partyWord(p.GetBy()), a.partyWord(p.GetTo())))
	}
	return strings.Join(out, ", ")
}

// partyWord is a role or a member.
func (a *app) partyWord(s string) string {
	if t, ok := words["ROLE_"+strings.ToUpper(s)]; ok {
		return t.in(a.lang) + " (" + plain(s) + ")"
	}
	return plain(s)
}

// fillHandling sets what the flags say about how a report must be treated.
func (f *reportFlags) fillHandling(r *pb.Report) error {
	if len(f.restrict) > 0 || f.restrictText != "" || f.expires != "" {
		if r.Restrictions == nil {
			r.Restrictions = &pb.Restrictions{}
		}
	}
	for _, typed := range f.restrict {
		i := slices.IndexFunc(restrictionWords, func(w restrictionWord) bool {
			return w.typed == strings.ReplaceAll(strings.ToLower(typed), "_", "-")
		})
		if i < 0 {
			return usage(textf("--restrict の値 %q は使えません", "--restrict cannot be %q", cut(plain(typed), 60)),
				Text{"使える値: no-copy (複製禁止), no-export (持出禁止), no-distribution (配布禁止), chatham-house",
					"use one of: no-copy, no-export, no-distribution, chatham-house"})
		}
		restrictionWords[i].set(r.Restrictions)
	}
	if f.restrictText != "" {
		r.Restrictions.Text = f.restrictText
	}
	if f.expires != "" {
		at, err := parseWhen("expires", f.expires, time.Now())
		if err != nil {
			return err
		}
		r.Restrictions.ExpireTime = timestamppb.New(at)
	}
	if f.secrecy != "" {
		regime, ok := map[string]pb.SecrecyRegime{
			"none": pb.SecrecyRegime_SECRECY_REGIME_NONE, "council": pb.SecrecyRegime_SECRECY_REGIME_COUNCIL_MEMBER,
			"contract": pb.SecrecyRegime_SECRECY_REGIME_CONTRACT,
		}[strings.ToLower(f.secrecy)]
		if !ok {
			return usage(textf("--secrecy の値 %q は使えません", "--secrecy cannot be %q", cut(plain(f.secrecy), 60)),
				Text{"使える値: none, council (協議会の守秘義務), contract (契約による守秘)", "use one of: none, council, contract"})
		}
		r.SecrecyRegime = regime
	}
	if len(f.onward) > 0 {
		r.OnwardPermissions = nil
	}
	for _, s := range f.onward {
		by, to, ok := strings.Cut(s, ":")
		if !ok || !party(by) || !party(to) {
			return usage(textf("--onward の値 %q を読めません", "cannot read --onward %q", cut(plain(s), 80)),
				Text{"渡す者:受ける者 を、会員IDか役割で書いてください。例: --onward port_authority:regional_development",
					"write BY:TO, each a member or a role: --onward port_authority:regional_development"})
		}
		r.OnwardPermissions = append(r.OnwardPermissions, &pb.OnwardPermission{By: by, To: to})
	}
	for _, id := range f.derivedFrom {
		for one := range strings.SplitSeq(strings.ToLower(id), ",") {
			if one = strings.TrimSpace(one); !slices.Contains(r.DerivedFrom, one) {
				r.DerivedFrom = append(r.DerivedFrom, one)
			}
		}
	}
	f.fillConsents(r)
	return nil
}

// fillConsents sets the consents that a person has typed, and no others.
func (f *reportFlags) fillConsents(r *pb.Report) {
	for _, c := range []struct {
		flag string
		says bool
		set  func(*pb.Consents, bool)
	}{
		{"cabinet-share", f.cabinetShare, func(c *pb.Consents, b bool) { c.CabinetShare = b }},
		{"expert-share", f.expertShare, func(c *pb.Consents, b bool) { c.ExpertShare = b }},
		{"peer-named", f.peerNamed, func(c *pb.Consents, b bool) { c.PeerNamed = b }},
		{"peer-damage", f.peerDamage, func(c *pb.Consents, b bool) { c.PeerDamage = b }},
	} {
		if f.flags == nil || !f.flags.Changed(c.flag) {
			continue
		}
		if r.Consents == nil {
			r.Consents = &pb.Consents{}
		}
		c.set(r.Consents, c.says)
	}
}

// party says whether s can be a member or a role.
func party(s string) bool {
	_, role := words["ROLE_"+strings.ToUpper(s)]
	return role || ca.ValidID(s)
}

// mergeRestrictions makes r hold those of the last report too: a later report
// is never looser because somebody left a flag out.
func mergeRestrictions(r, last *pb.Report) {
	old := last.GetRestrictions()
	if old == nil {
		return
	}
	if r.Restrictions == nil {
		r.Restrictions = proto.CloneOf(old)
		return
	}
	for _, w := range restrictionWords {
		if w.isSet(old) {
			w.set(r.Restrictions)
		}
	}
	if r.Restrictions.ExpireTime == nil {
		r.Restrictions.ExpireTime = proto.CloneOf(old.GetExpireTime())
	}
	if r.Restrictions.Text == "" {
		r.Restrictions.Text = old.GetText()
	}
}

// parseWhen reads a day, a minute or a time from now on. A day means its end,
// and without a zone it is Japanese time.
func parseWhen(flag, s string, now time.Time) (time.Time, error) {
	at, err := whenOf(strings.TrimSpace(s), now)
	if err == nil && !at.After(now) {
		err = fmt.Errorf("in the past")
		return time.Time{}, &failure{code: exitUsage, err: err,
			what: textf("--%s %s は過ぎています", "--%s %s lies in the past", flag, cut(plain(s), 60)),
			next: Text{"先の日時を指定してください", "give a time that is to come"}}
	}
	if err != nil {
		return time.Time{}, &failure{code: exitUsage, err: err,
			what: textf("--%s の値 %q を日時として読めません", "--%s cannot be %q", flag, cut(plain(s), 60)),
			next: Text{"例: 2026-12-31 (その日の終わり)、'2026-12-31 17:00' (日本時間)、30d、12h",
				"for example: 2026-12-31 (the end of that day), '2026-12-31 17:00' (Japanese time), 30d, 12h"}}
	}
	return at, nil
}

func whenOf(s string, now time.Time) (time.Time, error) {
	if day, err := time.ParseInLocation("2006-01-02", s, tokyo); err == nil {
		return day.AddDate(0, 0, 1).Add(-time.Second), nil
	}
	for _, layout := range []string{"2006-01-02 15:04", "2006-01-02T15:04"} {
		if at, err := time.ParseInLocation(layout, s, tokyo); err == nil {
			return at, nil
		}
	}
	if at, err := time.Parse(time.RFC3339, s); err == nil {
		return at, nil
	}
	var days int
	if n, err := fmt.Sscanf(s, "%dd", &days); n == 1 && err == nil && fmt.Sprintf("%dd", days) == s && days <= 36500 {
		return now.AddDate(0, 0, days), nil
	}
	d, err := time.ParseDuration(s)
	return now.Add(d), err
}
