package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "minato.example/proto/minato/v1"
)

func (a *app) nodeProfileCommand() *cobra.Command {
	var file, organisation, desk, port, terminal string
	var contacts []string
	var verify bool
	c := a.command("profile [--file F.toml]", about{
		short: Text{"報告に入る組織・窓口・場所を表示、設定します", "Show or set organisation, desk and place for reports"},
		long: Text{"オプションなしで表示します。窓口には二名以上が要ります (一人が不在でも連絡がつくように)。",
			"Without flags it shows the profile. A desk has two or more contacts, since one may be away."},
		example: "minato node profile --organisation 名古屋東ターミナル --desk 情報システム課 --contact '山田,052-000-0001,yamada@example.jp' --contact '鈴木,052-000-0002,suzuki@example.jp'",
	}, a.exactly(), func(c *cobra.Command, _ []string) error {
		changed := c.LocalNonPersistentFlags().Changed
		var people []*pb.Contact
		for _, s := range contacts {
			contact, err := parseContact(s)
			if err != nil {
				return err
			}
			people = append(people, contact)
		}
		if len(people) == 1 {
			return usage(Text{"--contact は二名以上要ります", "--contact is needed twice or more"},
				Text{"一人が不在でも連絡がつくように、もう一名を加えてください", "add one more person, since one may be away"})
		}
		if changed("desk") && len(people) == 0 {
			return usage(Text{"--desk には --contact が二つ以上要ります", "--desk needs --contact twice or more"},
				Text{"例: --contact '山田,052-000-0001,yamada@example.jp'", "for example: --contact 'Yamada,052-000-0001,yamada@example.jp'"})
		}
		var whole *pb.Profile
		if file != "" {
			var err error
			if whole, err = readProfile(file); err != nil {
				return err
			}
		}
		if !changed("file") && !changed("organisation") && !changed("desk") && !changed("contact") && !changed("port") && !changed("terminal") && !verify {
			return a.withNode(c.Context(), func(n pb.NodeServiceClient) error { return a.showProfile(c.Context(), n) })
		}
		return a.changeProfile(c.Context(), func(p *pb.Profile) error {
			if whole != nil {
				if len(whole.Persons) == 0 {
					// The file of an organisation need not list the persons
					// that `node person` keeps.
					whole.Persons = p.Persons
				}
				p.Reset()
				p.Organisation, p.Place, p.Desks, p.Persons = whole.Organisation, whole.Place, whole.Desks, whole.Persons
			}
			if changed("organisation") {
				p.Organisation = organisation
			}
			if changed("port") || changed("terminal") {
				if p.Place == nil {
					p.Place = &pb.Place{}
				}
				if changed("port") {
					p.Place.Port = port
				}
				if changed("terminal") {
					p.Place.Terminal = terminal
				}
			}
			if len(people) > 0 {
				setDesk(p, desk, people)
			}
			if verify && len(p.GetDesks()) == 0 {
				return usage(Text{"確かめる窓口がありません", "there is no desk to confirm"},
					Text{"--desk と --contact で登録してください", "register one with --desk and --contact"})
			}
			if verify || whole != nil {
				for _, d := range p.GetDesks() {
					d.VerifyTime = timestamppb.Now()
				}
			}
			return nil
		})
	})
	f := c.Flags()
	f.StringVar(&file, "file", "", a.t("全体を書いた TOML `ファイル`", "TOML `file` with the whole profile"))
	f.StringVar(&organisation, "organisation", "", a.t("組織の`名称`", "`name` of the organisation"))
	f.StringVar(&desk, "desk", "", a.t("窓口の`名称`", "`name` of the desk"))
	f.StringArrayVar(&contacts, "contact", nil, a.t("連絡先 `氏名,電話,メール` (二名以上)", "contact as `NAME,PHONE,MAIL` (two or more)"))
	f.StringVar(&port, "port", "", a.t("`港`の名称", "`port`"))
	f.BoolVar(&verify, "verify-contacts", false, a.t("窓口の連絡先が今も正しいと確かめた", "the contacts of all desks are still right"))
	f.StringVar(&terminal, "terminal", "", a.t("`ターミナル`や施設の名称", "`terminal`, berth or site"))
	return c
}

// setDesk replaces the contacts of the desk of that name; without a name, of
// the first desk.
func setDesk(p *pb.Profile, name string, contacts []*pb.Contact) {
	for _, d := range p.Desks {
		if name == "" || d.GetName() == name {
			d.Contacts, d.VerifyTime = contacts, timestamppb.Now()
			return
		}
	}
	if name == "" {
		name = "情報セキュリティ窓口"
	}
	p.Desks = append(p.Desks, &pb.Desk{Name: name, Contacts: contacts, VerifyTime: timestamppb.Now()})
}

// parseContact reads NAME,PHONE,MAIL; phone or mail may be empty, not both.
func parseContact(s string) (*pb.Contact, error) {
	parts := strings.Split(strings.ReplaceAll(s, "、", ","), ",")
	for i := range parts {
		parts[i] = strings.TrimSpace(parts[i])
	}
	if len(parts) > 3 || parts[0] == "" {
		return nil, badContact(s)
	}
	parts = append(parts, "", "")
	contact := &pb.Contact{Name: parts[0], Phone: parts[1], Mail: parts[2]}
	if contact.Mail == "" && strings.Contains(contact.Phone, "@") {
		contact.Phone, contact.Mail = "", contact.Phone
	}
	if contact.Phone == "" && contact.Mail == "" || contact.Mail != "" && !strings.Contains(contact.Mail, "@") {
		return nil, badContact(s)
	}
	return contact, nil
}

func badContact(s string) error {
	return usage(
		textf("--contact の値 %q を読めません", "cannot read --contact %q", cut(plain(s), 80)),
		Text{"氏名,電話,メール の順に書いてください。例: '山田,052-000-0001,yamada@example.jp'", "write NAME,PHONE,MAIL: 'Yamada,052-000-0001,yamada@example.jp'"})
}

// profileFile is a profile as a TOML file.
type profileFile struct {
	Organisation string `toml:"organisation"`
	Place        struct {
		Port     string `toml:"port"`
		Terminal string `toml:"terminal"`
	} `toml:"place"`
	Desks []struct {
		Name     string `toml:"name"`
		Contacts []struct {
			Name           string `toml:"name"`
			Phone          string `toml:"phone"`
			Mail           string `toml:"mail"`
			AroundTheClock bool   `toml:"around_the_clock"`
		} `toml:"contacts"`
	} `toml:"desks"`
	Persons []struct {
		ID    string `toml:"id"`
		Name  string `toml:"name"`
		Title string `toml:"title"`
	} `toml:"persons"`
}

// readProfile reads a profile strictly: an unknown key is an error.
func readProfile(path string) (*pb.Profile, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, unreadable("file", path, err)
	}
	var f profileFile
	dec := toml.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&f); err != nil {
		return nil, badTOML("file", path, err)
	}
	p := &pb.Profile{Organisation: f.Organisation}
	if f.Place.Port != "" || f.Place.Terminal != "" {
		p.Place = &pb.Place{Port: f.Place.Port, Terminal: f.Place.Terminal}
	}
	for _, d := range f.Desks {
		desk := &pb.Desk{Name: d.Name}
		for _, c := range d.Contacts {
			desk.Contacts = append(desk.Contacts, &pb.Contact{Name: c.Name, Phone: c.Phone, Mail: c.Mail, AroundTheClock: c.AroundTheClock})
		}
		p.Desks = append(p.Desks, desk)
	}
	for _, q := range f.Persons {
		p.Persons = append(p.Persons, &pb.Person{Id: q.ID, Name: q.Name, Title: q.Title})
	}
	return p, nil
}

// badTOML points at the line of a file that go-toml could not take.
func badTOML(flag, path string, err error) error {
	// A strict error wraps decode errors, so it is looked for first.
	if e, ok := errors.AsType[*toml.StrictMissingError](err); ok && len(e.Errors) > 0 {
		line, _ := e.Errors[0].Position()
		key := strings.Join(e.Errors[0].Key(), ".")
		return usage(
			textf("--%s %s の %d 行目: %q という項目はありません", "--%s %s line %d: there is no key %q", flag, plain(path), line, cut(plain(key), 60)),
			Text{"項目名を直すか、行を消してください", "correct the key or delete the line"})
	}
	line := 0
	if e, ok := errors.AsType[*toml.DecodeError](err); ok {
		line, _ = e.Position()
	}
	return usage(
		textf("--%s %s の %d 行目を読めません: %s", "--%s %s: cannot read line %d: %s", flag, plain(path), line, plain(err.Error())),
		Text{"TOML の書き方を確かめてください", "correct the TOML"})
}

// changeProfile reads the profile, changes it and sends it back.
func (a *app) changeProfile(ctx context.Context, change func(*pb.Profile) error) error {
	return a.withNode(ctx, func(n pb.NodeServiceClient) error {
		ctx, cancel := context.WithTimeout(ctx, callTime)
		defer cancel()
		now, err := n.GetProfile(ctx, &pb.GetProfileRequest{})
		if err != nil {
			return err
		}
		p := now.GetProfile()
		if p == nil {
			p = &pb.Profile{}
		}
		if err := change(p); err != nil {
			return err
		}
		answer, err := n.UpdateProfile(ctx, &pb.UpdateProfileRequest{Profile: p})
		if err != nil {
			return err
		}
		if err := a.printProfile(p); err != nil {
			return err
		}
		if !answer.GetRecorded() {
			a.talk(Text{"この端末に保存しました。ハブにつながり次第、送ります。", "Stored on this machine; it is sent when the hub is reached."})
			return told(exitQueued)
		}
		a.talk(Text{"ハブに登録しました", "recorded by the hub"})
		return nil
	})
}

func (a *app) showProfile(ctx context.Context, n pb.NodeServiceClient) error {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	answer, err := n.GetProfile(ctx, &pb.GetProfileRequest{})
	if err != nil {
		return err
	}
	p := answer.GetProfile()
	if p.GetOrganisation() == "" {
		a.talk(Text{"まだ設定されていません。例: minato node profile --help", "not set yet; see minato node profile --help"})
	}
	return a.printProfile(p)
}

func (a *app) printProfile(p *pb.Profile) error {
	if a.json {
		if p == nil {
			p = &pb.Profile{}
		}
		return a.emitFull(p)
	}
	facts := [][2]string{
		{a.t("組織", "organisation"), plain(p.GetOrganisation())},
		{a.t("場所", "place"), plain(strings.TrimSpace(p.GetPlace().GetPort() + " " + p.GetPlace().GetTerminal()))},
	}
	for _, d := range p.GetDesks() {
		for _, c := range d.GetContacts() {
			facts = append(facts, [2]string{a.t("窓口", "desk"), plain(fmt.Sprintf("%s: %s %s %s", d.GetName(), c.GetName(), c.GetPhone(), c.GetMail()))})
		}
		if d.GetVerifyTime() != nil {
			facts = append(facts, [2]string{a.t("確認", "confirmed"), plain(d.GetName()) + ": " + a.moment(d.GetVerifyTime())})
		}
	}
	for _, q := range p.GetPersons() {
		facts = append(facts, [2]string{a.t("名指し先", "person"), plain(strings.TrimSpace(fmt.Sprintf("%s: %s %s", q.GetId(), q.GetName(), q.GetTitle())))})
	}
	return a.facts(facts)
}
