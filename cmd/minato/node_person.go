package main

import (
	"slices"

	"github.com/spf13/cobra"

	pb "minato.example/proto/minato/v1"
)

func (a *app) nodePersonCommand() *cobra.Command {
	c := a.group("person", about{
		short:   Text{"TLP:RED の宛先になれる人を登録します", "Register who can be named for TLP:RED"},
		example: "minato node person add ciso --name 山田太郎 --title 情報セキュリティ責任者",
	})
	c.AddCommand(a.personAddCommand(), a.personRemoveCommand())
	return c
}

func (a *app) personAddCommand() *cobra.Command {
	var name, title, keyFile string
	var newKey bool
	c := a.command("add ID --name N [--title T] [--key-file FILE]", about{
		short: Text{"人を登録し、その人の鍵を作ります (同じ ID なら書き換えます)", "Register a person and make the person's key (the same ID is replaced)"},
		long: Text{"TLP:RED はその人の鍵に封をして届きます。鍵はノードが預かります。本人だけが開けるようにするには --key-file を付けます。",
			"TLP:RED is sealed to the person's key. The node keeps the key; with --key-file only the person can open."},
		example: "minato node person add ciso --name 山田太郎 --title 情報セキュリティ責任者 --key-file ciso.key",
	}, a.exactly("ID"), func(c *cobra.Command, args []string) error {
		if err := a.need(required{"name", name != ""}); err != nil {
			return err
		}
		if err := checkID("ID", args[0]); err != nil {
			return err
		}
		person := &pb.Person{Id: args[0], Name: name, Title: title}
		queued := a.changeProfile(c.Context(), func(p *pb.Profile) error {
			if i := personAt(p, person.Id); i >= 0 {
				p.Persons[i] = person
			} else {
				p.Persons = append(p.Persons, person)
			}
			return nil
		})
		if queued != nil && exitCode(queued) != exitQueued {
			return queued
		}
		if err := a.personKey(c.Context(), person.Id, keyFile, newKey); err != nil {
			return err
		}
		return queued
	})
	c.Flags().StringVar(&name, "name", "", a.t("`氏名` (必須)", "`name` (required)"))
	c.Flags().StringVar(&title, "title", "", a.t("`役職`", "`position`"))
	c.Flags().StringVar(&keyFile, "key-file", "", a.t("鍵を本人の`ファイル`に書き、ノードには残さない", "write the key to this `file` of the person, not into the node"))
	c.Flags().BoolVar(&newKey, "new-key", false, a.t("既に鍵があっても作り直す", "make another key even if there is one"))
	return c
}

func (a *app) personRemoveCommand() *cobra.Command {
	return a.command("remove ID", about{
		short:   Text{"人の登録を消します", "Remove a person"},
		example: "minato node person remove ciso",
	}, a.exactly("ID"), func(c *cobra.Command, args []string) error {
		return a.changeProfile(c.Context(), func(p *pb.Profile) error {
			i := personAt(p, args[0])
			if i < 0 {
				return usage(
					textf("%q という人は登録されていません", "there is no person %q", cut(plain(args[0]), 60)),
					Text{"一覧: minato node profile", "see minato node profile"})
			}
			p.Persons = slices.Delete(p.Persons, i, i+1)
			return nil
		})
	})
}

func personAt(p *pb.Profile, id string) int {
	return slices.IndexFunc(p.GetPersons(), func(q *pb.Person) bool { return q.GetId() == id })
}
