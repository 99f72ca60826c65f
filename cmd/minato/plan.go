package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"charm.land/lipgloss/v2"

	pb "minato.example/proto/minato/v1"
	"minato.example/tlp"
)

const (
	planWidth = 100 // columns of a list of members
	namesUpTo = 4   // members that are shown by id and name; more by id only
)

// printPlan prints a decision. Without the id of a report it is a preview and
// says all of why; with it the decision has been made, and what waits for a
// person comes with the command to type.
func (a *app) printPlan(p *pb.Plan, report string) error {
	if err := a.printCopies(p.GetCopies(), report == ""); err != nil {
		return err
	}
	if err := a.printSteps(p, report); err != nil {
		return err
	}
	return a.printOmissions(p.GetOmissions())
}

// sayInForce says how everybody has to treat the report, where that is more
// than its label: restrictions, and a label that a quoted report has made
// stricter.
func (a *app) sayInForce(asked pb.TlpLabel, p *pb.Plan) error {
	h := p.GetHandling()
	if h.GetTlp() > asked {
		if err := a.sayText(textf("引用した報告に合わせて %s になります", "it becomes %s, as the reports that it quotes", a.chip(tlp.Label(h.GetTlp()).String()))); err != nil {
			return err
		}
	}
	return a.facts([][2]string{
		{a.t("取扱制限", "handling"), a.bound(h.GetRestrictions(), h.GetSecrecyRegime())},
		{a.t("転送の許可", "may pass on"), a.onward(h.GetOnwardPermissions())},
		{a.t("根拠の版", "by"), a.versions(p.GetDirectoryRevision(), p.GetPolicyVersion())},
	})
}

// versions names what a decision was worked out from.
func (a *app) versions(directory uint64, policy string) string {
	s := ""
	if directory > 0 {
		s = fmt.Sprintf(a.t("名簿 第%d版", "directory %d"), directory)
	}
	if policy != "" {
		s = strings.TrimPrefix(s+fmt.Sprintf(a.t(", 方針 %s", ", policy %s"), plain(policy)), ", ")
	}
	return s
}

// treatment is what some recipients have in common: what they get and how.
type treatment struct {
	flow                  pb.Flow
	named                 bool
	withheld, generalised string
}

// printCopies says who gets what.
func (a *app) printCopies(copies []*pb.Copy, all bool) error {
	if len(copies) == 0 {
		return a.sayText(Text{"届く相手: なし", "recipients: nobody"})
	}
	if err := a.sayText(textf("届く相手: %d", "recipients: %d", len(copies))); err != nil {
		return err
	}
	return a.printTreated(copies, all)
}

// printTreated prints copies; those who are treated alike stand together.
func (a *app) printTreated(copies []*pb.Copy, all bool) error {
	alike := map[treatment][]*pb.Copy{}
	for _, c := range copies {
		t := treatment{c.GetFlow(), c.GetNamed(), a.fieldList(c.GetWithheld()), a.fieldList(c.GetGeneralised())}
		alike[t] = append(alike[t], c)
	}
	order := make([]treatment, 0, len(alike))
	for t := range alike {
		order = append(order, t)
	}
	slices.SortFunc(order, func(x, y treatment) int {
		return cmp.Or(cmp.Compare(x.flow, y.flow), -compareBool(x.named, y.named),
			strings.Compare(x.withheld, y.withheld), strings.Compare(x.generalised, y.generalised))
	})
	for _, t := range order {
		if err := a.say(a.treated(t)); err != nil {
			return err
		}
		if err := a.printAlike(alike[t], all); err != nil {
			return err
		}
		if !all {
			continue
		}
		for _, fields := range [][2]string{{a.t("含まない項目", "without"), t.withheld}, {a.t("粗くする項目", "coarser"), t.generalised}} {
			if fields[1] != "" {
				if err := a.sayWrapped("    "+fields[0]+": ", "      ", strings.Split(fields[1], ", ")); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func compareBool(x, y bool) int {
	switch {
	case x == y:
		return 0
	case x:
		return 1
	}
	return -1
}

// treated says what the recipients of one kind get.
func (a *app) treated(t treatment) string {
	how := Text{"名を示さずに", "source not named"}
	if t.named {
		how = Text{"名を示して", "source named"}
	}
	what := Text{"全部", "whole"}
	if t.withheld+t.generalised != "" {
		what = Text{"一部", "in part"}
	}
	line := textf("%s、%s", "%s, %s", how, what)
	if t.flow != pb.Flow_FLOW_UNSPECIFIED {
		line = textf("%s: %s", "%s: %s", word(t.flow), line)
	}
	return line.in(a.lang)
}

// printAlike prints recipients that are treated alike: one line for those who
// have it by the same rules.
func (a *app) printAlike(copies []*pb.Copy, all bool) error {
	var order []string
	byRules := map[string][]*pb.Copy{}
	for _, c := range copies {
		key := strings.Join(rules(c.GetGrounds()), ", ") + "\x00" + c.GetForwardedBy()
		if byRules[key] == nil {
			order = append(order, key)
		}
		byRules[key] = append(byRules[key], c)
	}
	for _, key := range order {
		same := byRules[key]
		line := ""
		if by := same[0].GetForwardedBy(); by != "" {
			line = fmt.Sprintf(a.t("  %s が転送", "  forwarded by %s"), plain(by))
		}
		grounds := same[0].GetGrounds()
		switch {
		case len(grounds) == 0:
		case all:
			line += "  " + a.ground(grounds[0])
		default:
			line += a.t("  規則 ", "  rule ") + strings.Join(rules(grounds), ", ")
		}
		names := make([]string, len(same))
		for i, c := range same {
			names[i] = plain(c.GetMember())
			if len(same) <= namesUpTo {
				names[i] = strings.TrimSpace(names[i] + " " + plain(c.GetName()))
			}
			if len(c.GetPersons()) > 0 {
				names[i] += " (" + plain(strings.Join(c.GetPersons(), ", ")) + ")"
			}
		}
		var err error
		if len(same) <= namesUpTo {
			err = a.say("  " + strings.Join(names, ", ") + line)
		} else if err = a.say(fmt.Sprintf(a.t("  %d 会員", "  %d members"), len(same)) + line); err == nil {
			err = a.sayWrapped("    ", "    ", names)
		}
		if err != nil {
			return err
		}
		for i, g := range grounds {
			if !all {
				break
			}
			if i > 0 {
				if err := a.say("    " + a.ground(g)); err != nil {
					return err
				}
			}
			if err := a.sayBasis(g); err != nil {
				return err
			}
		}
	}
	return nil
}

func rules(grounds []*pb.Ground) []string {
	ids := make([]string, len(grounds))
	for i, g := range grounds {
		ids[i] = plain(g.GetRule())
	}
	return ids
}

// ground is a rule and how strongly it binds.
func (a *app) ground(g *pb.Ground) string {
	s := a.t("規則 ", "rule ") + plain(g.GetRule())
	if g.GetObligation() != pb.Obligation_OBLIGATION_UNSPECIFIED {
		s += " " + word(g.GetObligation()).in(a.lang)
	}
	return s
}

// sayBasis prints the sentence behind a rule.
func (a *app) sayBasis(g *pb.Ground) error {
	if g.GetBasis() == "" {
		return nil
	}
	return a.say("    " + plain(g.GetBasis()))
}

// sayWrapped prints a list after a prefix, its further lines after the indent.
func (a *app) sayWrapped(prefix, indent string, items []string) error {
	line, used := prefix, false
	for i, item := range items {
		if i < len(items)-1 {
			item += ","
		}
		if used && lipgloss.Width(line)+1+lipgloss.Width(item) > planWidth {
			if err := a.say(line); err != nil {
				return err
			}
			line, used = indent, false
		}
		if used {
			line += " "
		}
		line, used = line+item, true
	}
	return a.say(line)
}

// printSteps says what waits for a person, what binds most first: the steps of
// the source, then what the recipients have to do.
func (a *app) printSteps(p *pb.Plan, report string) error {
	type task struct {
		step   *pb.Step
		holder string
	}
	var tasks []task
	for _, s := range p.GetSteps() {
		tasks = append(tasks, task{step: s})
	}
	for _, c := range p.GetCopies() {
		for _, s := range c.GetTasks() {
			tasks = append(tasks, task{s, strings.TrimSpace(plain(c.GetMember()) + " " + plain(c.GetName()))})
		}
	}
	if len(tasks) == 0 {
		return nil
	}
	slices.SortStableFunc(tasks, func(x, y task) int {
		return cmp.Or(compareBool(x.holder != "", y.holder != ""), cmp.Compare(x.step.GetGround().GetObligation(), y.step.GetGround().GetObligation()))
	})
	head := textf("人が判断、実行すること: %d", "for people to decide or do: %d", len(tasks))
	if report != "" {
		head = textf("次にすること: %d", "what to do next: %d", len(tasks))
	}
	if err := a.sayText(head); err != nil {
		return err
	}
	for _, t := range tasks {
		whose := word(t.step.GetAct())
		if t.step.GetAct() == pb.Act_ACT_AUTO {
			whose = Text{"要連絡", "to be told"} // nobody here whom the hub could tell
		}
		if err := a.printStep(t.step, whose); err != nil {
			return err
		}
		next := a.nextOf(t.step, p, report)
		if t.holder != "" {
			next = []Text{textf("%s が行います", "%s does it", t.holder)}
		}
		for _, line := range next {
			if err := a.say("    " + line.in(a.lang)); err != nil {
				return err
			}
		}
	}
	return nil
}

// printStep prints what is to be done, by when and why; whose says who does it.
func (a *app) printStep(s *pb.Step, whose Text) error {
	line := fmt.Sprintf("  %s %s", plain(s.GetGround().GetRule()), whose.in(a.lang))
	if o := s.GetGround().GetObligation(); o != pb.Obligation_OBLIGATION_UNSPECIFIED {
		line += a.t("・", ", ") + word(o).in(a.lang)
	}
	line += "  " + roleWord(s.GetRole()).in(a.lang)
	if len(s.GetMembers()) > 0 && s.GetRole() != "" {
		line += ": " + plain(strings.Join(s.GetMembers(), ", "))
	}
	if may(s) && s.GetRole() != "" && len(s.GetMembers()) == 0 {
		line += a.t(" (この港には不参加)", " (not at this port)")
	}
	if err := a.say(line); err != nil {
		return err
	}
	// What one may do is one line, so that what one must do stays in sight.
	if !may(s) {
		if err := a.sayBasis(s.GetGround()); err != nil {
			return err
		}
	}
	var terms []string
	if s.GetForm() != "" {
		terms = append(terms, a.t("書式 ", "form ")+plain(s.GetForm()))
	}
	if t := s.GetPreliminaryDueTime(); t != nil {
		terms = append(terms, fmt.Sprintf(a.t("速報 %s まで", "preliminary report by %s"), a.moment(t)))
	}
	if t := s.GetDetailedDueTime(); t != nil {
		terms = append(terms, fmt.Sprintf(a.t("詳報 %s まで", "detailed report by %s"), a.moment(t)))
	}
	if len(terms) == 0 {
		return nil
	}
	return a.say("    " + strings.Join(terms, "  "))
}

// may says whether a step is possible, no more.
func may(s *pb.Step) bool { return s.GetGround().GetObligation() == pb.Obligation_OBLIGATION_MAY }

// nextOf says how to go on with a step of one's own: before sending, which flag
// reaches those whom it names; afterwards, which command.
func (a *app) nextOf(s *pb.Step, p *pb.Plan, report string) []Text {
	own := s.GetRole() == ""
	outside := !own && len(s.GetMembers()) == 0
	var to []string
	for _, m := range s.GetMembers() {
		if slices.ContainsFunc(p.GetCopies(), func(c *pb.Copy) bool { return c.GetMember() == m }) {
			continue
		}
		m = "--to " + plain(m)
		if tlp.Label(p.GetHandling().GetTlp()).NeedsPersons() {
			m += a.t("/人のID", "/PERSON")
		}
		to = append(to, m)
	}
	list := strings.Join(to, " ")
	var next []Text
	switch {
	case own:
		next = append(next, withinOrganisation)
	case outside && may(s):
		return nil
	case outside:
		next = append(next, notHere)
	case s.GetAct() == pb.Act_ACT_EXPORT:
	case s.GetAct() == pb.Act_ACT_TASK && report == "":
		next = append(next, Text{"受け手が行います", "a recipient does it"})
	case len(to) == 0:
		next = append(next, Text{"この報告が届く相手です", "they get this report"})
	case report == "":
		next = append(next, textf("今の報告で届けるには、次を加えます: %s", "to reach them with this report, add: %s", list))
	default:
		next = append(next, textf("渡す: minato forward %s %s", "pass it on: minato forward %s %s", shortID(report), list))
	}
	// What one may do needs no record; it takes one line less.
	if report != "" && !may(s) {
		next = append(next, textf("記録: minato step %s %s --done|--planned|--declined", "record it: minato step %s %s --done|--planned|--declined",
			shortID(report), plain(s.GetGround().GetRule())))
	}
	return next
}

var withinOrganisation = Text{"組織の中で伝えてください。このシステムからは送りません", "tell them within your organisation; nothing is sent from here"}

var notHere = Text{"この港には参加していません。電話等で連絡してください", "not at this port: telephone, or use another channel"}

// printOmissions says who is left out and why.
func (a *app) printOmissions(omissions []*pb.Omission) error {
	if len(omissions) == 0 {
		return nil
	}
	if err := a.sayText(textf("規則にあるが届かない相手: %d", "named by a rule and left out: %d", len(omissions))); err != nil {
		return err
	}
	var order []string
	members := map[string][]string{}
	for _, o := range omissions {
		why := a.ground(o.GetGround()) + "\n" + plain(Text{o.GetJapanese(), o.GetEnglish()}.in(a.lang))
		if members[why] == nil {
			order = append(order, why)
		}
		members[why] = append(members[why], strings.TrimSpace(plain(o.GetMember())+" "+plain(o.GetName())))
	}
	for _, why := range order {
		rule, reason, _ := strings.Cut(why, "\n")
		if err := a.say("  " + strings.Join(members[why], ", ") + "  " + rule); err != nil {
			return err
		}
		if err := a.say("    " + reason); err != nil {
			return err
		}
	}
	return nil
}
