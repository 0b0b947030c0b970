"""The app's tabs in a browser."""

from playwright.sync_api import Page


def open_tab(page: Page, name: str) -> None:
    page.get_by_role("tab", name=name).click()
