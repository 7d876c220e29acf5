//! `--parents`.

use crate::bench::{check, check_stage};

const FILES: &str = "x/@751 x/a=1 x/y/@700 x/y/b=2 x/y/c=3 y/@750 y/a=4 top=5 ly->y";

#[test]
fn directories_above_a_source_come_with_it_and_keep_their_mode() {
    check(FILES, "", "COPY --parents x/y/b /p/", "p/ p/x/@751:0:0 p/x/y/@700:0:0 p/x/y/b=2");
    check(
        FILES,
        "",
        "COPY --parents ./x/a ../y/a x/../top /p/",
        "p/ p/top=5 p/x/@751:0:0 p/x/a=1 p/y/@750:0:0 p/y/a=4",
    );
    check_stage("d/@711:5:6 d/a=1@640:7:8", "", "COPY --parents d/a /", "d/@711:5:6 d/a=1@640:7:8");
}

#[test]
fn what_is_above_the_pivot_stays_behind() {
    check(FILES, "", "COPY --parents x/./y/b /p/", "p/ p/y/@700:0:0 p/y/b=2");
    check(FILES, "", "COPY --parents x/./y/./b /p/", "p/ p/y/@700:0:0 p/y/b=2");
    check(FILES, "", "COPY --parents ././x/a /p/", "p/ p/x/@751:0:0 p/x/a=1");
    check(
        FILES,
        "",
        "COPY --parents x/y/. /p/",
        "p/ p/x/@751:0:0 p/x/y/@700:0:0 p/x/y/b=2 p/x/y/c=3",
    );
    check(FILES, "", "COPY --parents */./a /p/", "p/ p/a=4");
    check_stage(FILES, "", "COPY --parents */./a /p/", "p/ p/a=4 p/top=5");
    check(FILES, "", "COPY --parents */./nothing /p/", "");
    check_stage(FILES, "", "COPY --parents x*/./nothing /p/", "p/");
}

#[test]
fn wildcards_match_the_whole_path_and_two_stars_span_directories() {
    check(FILES, "", "COPY --parents */a /p/", "p/ p/x/@751:0:0 p/x/a=1 p/y/@750:0:0 p/y/a=4");
    check(
        FILES,
        "",
        "COPY --parents **/[bc] /p/",
        "p/ p/x/@751:0:0 p/x/y/@700:0:0 p/x/y/b=2 p/x/y/c=3",
    );
    check(
        FILES,
        "",
        "COPY --parents ** /p/",
        "p/ p/ly->y p/top=5 p/x/@751:0:0 p/x/a=1 p/x/y/@700:0:0 p/x/y/b=2 p/x/y/c=3 p/y/@750:0:0 p/y/a=4",
    );
    check(FILES, "", "COPY --parents **/nothing /p/", "p/");
}

#[test]
fn a_source_without_wildcard_has_to_be_there() {
    for (source, missing) in [
        ("x/nope", "/x/nope"),
        ("nope/./x", "/nope/x"),
        ("x/y/./", "/x/y"),
        ("ly/a", "/ly/a"),
        ("ly/./a", "/ly/a"),
        ("top/./a", "/top/a"),
    ] {
        check(
            FILES,
            "",
            &format!("COPY --parents {source} /p/"),
            &format!("error: cannot copy `/{source}` with its parents: \"{missing}\": not found"),
        );
    }
    check(
        FILES,
        "",
        "COPY --parents --exclude=** x /p/",
        "error: cannot copy `/x` with its parents: \"/x\": not found",
    );
}

#[test]
fn flags_concern_what_is_made() {
    check(
        FILES,
        "",
        "COPY --parents --chown=3:4 x/a /p/",
        "p/@755:3:4 p/x/@751:3:4 p/x/a=1@644:3:4",
    );
    check(
        FILES,
        "",
        "COPY --parents --chmod=1711 x/a /p/",
        "p/@711:0:0 p/x/@1711:0:0 p/x/a=1@1711:0:0",
    );
    check(
        FILES,
        "",
        "COPY --parents --exclude=**/b x /p/",
        "p/ p/x/@751:0:0 p/x/a=1 p/x/y/@700:0:0 p/x/y/c=3",
    );
}

#[test]
fn a_parent_that_is_there_gets_the_mode_and_keeps_its_owner() {
    check(
        FILES,
        "p/x/@777:9:9",
        "COPY --parents --chown=3:4 --chmod=600 x/a /p/",
        "p/ p/x/@751:9:9 p/x/a=1@600:3:4",
    );
    check(FILES, "p/x->y", "COPY --parents x/a /p/", "error: cannot copy to non-directory: /p/x");
}

#[test]
fn a_link_at_the_top_has_to_lead_somewhere() {
    let dangling = "error: cannot copy `/l`: \"/l\": not found: it is a symbolic link to `nope`: \
                    \"/nope\": not found";
    check("l->nope", "", "COPY --parents l /p/", dangling);
    check("l->nope a=1", "", "COPY --exclude=x . /p/", dangling);
    check_stage("l->nope a=1", "", "COPY --parents * /p/", dangling);
    check("l->nope a=1", "", "COPY --exclude=l . /p/", "p/ p/a=1");
    check("l->nope a=1", "", "COPY . /p/", "p/ p/a=1 p/l->nope");
    check("d/l->nope", "", "COPY --parents d/l /p/", "p/ p/d/ p/d/l->nope");
    check("d/l->nope", "", "COPY --exclude=x d /p/", "p/ p/l->nope");
}
