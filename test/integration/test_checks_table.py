"""Every check there is has a test that provokes it: no row of the tables is only thought to work."""
import ast
import glob
import os
import re

from support.cluster import ROOT

# Provoked, and asserted otherwise than by one(): by the list of all findings of the check.
LISTED = {
    "SOURCE_OIDS": "test_what_is_gone",
    "SOURCE_OID_INDEX": "test_what_is_gone",
    "SOURCE_GONE_TYPE": "test_what_is_gone",
    "SOURCE_OLD_POLYMORPHIC": "test_what_is_gone",
    "SOURCE_INHERITED_ORDER": "test_order_of_an_inherited_tables_columns",
    "SOURCE_RESERVED_SCHEMA": "test_schema_of_our_name",
    "DESTINATION_ENCODING": "test_encodings",
    "ENCODING_UNCHECKED": "test_encodings",
    "FOLLOW_SUBSCRIPTION": "test_subscription",
    "SOURCE_TABLE_PRIVILEGE": "test_privileges_are_listed_and_the_fixes_mend_them",
    "DESTINATION_CLASH": "test_clashes",
    "ROLE_MISSING": "test_roles",
    "ROLE_NOT_MEMBER": "test_roles",
    "SUPERUSER_NEEDED": "test_what_only_a_superuser_makes",
    "FOLLOW_NO_IDENTITY": "test_follow_tables_without_identity",
    "FOLLOW_OTHER_PUBLICATION": "test_follow_tables_without_identity",
    "FOLLOW_FENCE_LOCK": "test_follow_rights",
    "TABLESPACE_MAP": "test_what_the_checks_tell",
}


def rows(path):
    """{id: (severity, side)} of a table of checks."""
    with open(os.path.join(ROOT, path), encoding="utf-8") as file:
        return {check: (severity, side) for check, severity, side in
                re.findall(r'^X\((\w+), (ERROR|WARNING|INFO), "(\w*)"', file.read(), re.MULTILINE)}


def trees():
    for path in sorted(glob.glob(os.path.join(ROOT, "test", "integration", "test_*.py"))):
        if os.path.basename(path) != os.path.basename(__file__):
            with open(path, encoding="utf-8") as file:
                yield ast.parse(file.read())


def texts(nodes):
    return [node.value if isinstance(node, ast.Constant) else None for node in nodes]


def provoked():
    """{id: {(severity, side)}} of the calls of one(findings, id, severity, side="source")."""
    found = {}
    for tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "one" and len(node.args) >= 3:
                check, severity, side = (texts(node.args[1:]) + ["source"])[:3]
                if check and severity:
                    found.setdefault(check, set()).add((severity, side))
    return found


def named_by():
    """{test: texts in it, its decorators among them}"""
    return {node.name: {inner.value for inner in ast.walk(node) if isinstance(inner, ast.Constant)}
            for tree in trees() for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_every_check_is_provoked():
    table, found = rows("src/engine/preflight/checks.def"), provoked()
    assert len(table) > 100
    # CHECK_IMPOSSIBLE is of the side of the check that could not be made.
    wrong = {check: (table.get(check), calls) for check, calls in found.items()
             if table.get(check) and check != "CHECK_IMPOSSIBLE" and calls != {table[check]}}
    assert wrong == {}, "severity or side of a test is not the table's"
    missing = set(table) - set(found) - set(LISTED)
    assert missing == set(), "checks that no test provokes"
    assert set(LISTED) <= set(table) and not set(LISTED) & set(found)
    named = named_by()
    assert {(check, test) for check, test in LISTED.items() if check not in named.get(test, ())} == set()


def test_every_finding_of_an_instance_is_provoked():
    named = {node.value for tree in trees() for node in ast.walk(tree)
             if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    missing = {check for check in rows("src/engine/instance/findings.def")
               if f"INSTANCE_{check}" not in named and check not in named}
    assert missing == set(), "findings that no test provokes"
