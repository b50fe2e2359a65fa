# SPDX-License-Identifier: GPL-3.0-or-later
"""A bridge with a card in it, made and taken away by the host's own network manager.

``plans`` chooses the manager and says what it has to be told (pure); one file per manager; ``host`` looks at the host and
touches it; ``armed`` makes a change that the host undoes by itself unless it is confirmed. Module plover_bridge plans and
begins; the script plover-bridge on the host (role bridge) makes, confirms and undoes.
"""
